//! Text that came from outside: trimmed, bounded, free of control characters.

use super::refusal::FieldError;

/// Longest name of anything, in characters.
pub const NAME_MAX: usize = 200;
/// Longest description, in characters.
pub const DESCRIPTION_MAX: usize = 20_000;
/// Longest e-mail address, in bytes (RFC 5321 §4.5.3.1.3).
pub const EMAIL_MAX: usize = 254;

/// A single line of 1 to `max` characters.
///
/// # Errors
/// `required`, `too_long` or `invalid_characters`.
pub fn line(pointer: &str, raw: &str, max: usize) -> Result<String, FieldError> {
    let text = raw.trim();
    if text.is_empty() {
        return Err(FieldError::new(pointer, "required", "must not be empty"));
    }
    if text.chars().any(char::is_control) {
        let detail = "must not contain control characters";
        return Err(FieldError::new(pointer, "invalid_characters", detail));
    }
    bounded(pointer, text, max)
}

/// Text of several lines, up to `max` characters; may be empty.
///
/// # Errors
/// `too_long` or `invalid_characters`.
pub fn paragraphs(pointer: &str, raw: &str, max: usize) -> Result<String, FieldError> {
    let text = raw.trim();
    if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        let detail = "must not contain control characters other than line breaks and tabs";
        return Err(FieldError::new(pointer, "invalid_characters", detail));
    }
    bounded(pointer, text, max)
}

/// An e-mail address in lower case. Only its form is checked: mail that arrives is the proof.
///
/// # Errors
/// `invalid_email`.
pub fn email(pointer: &str, raw: &str) -> Result<String, FieldError> {
    let text = raw.trim().to_lowercase();
    let well_formed = text.len() <= EMAIL_MAX
        && text.split_once('@').is_some_and(|(local, domain)| {
            let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '@';
            !local.is_empty()
                && local.len() <= 64
                && local.chars().all(plain)
                && domain.split('.').count() >= 2
                && domain.split('.').all(|label| {
                    !label.is_empty()
                        && label.len() <= 63
                        && label.chars().all(|c| c.is_alphanumeric() || c == '-')
                })
        });
    if well_formed {
        Ok(text)
    } else {
        Err(FieldError::new(pointer, "invalid_email", "must be an e-mail address"))
    }
}

fn bounded(pointer: &str, text: &str, max: usize) -> Result<String, FieldError> {
    if text.chars().count() > max {
        let detail = format!("must be at most {max} characters");
        return Err(FieldError::new(pointer, "too_long", detail));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e_mail_addresses_are_compared_in_lower_case() {
        assert_eq!(email("/email", " Ana.B+c@Example.ORG\t").unwrap(), "ana.b+c@example.org");
        assert_eq!(email("/email", "ö@bücher.example").unwrap(), "ö@bücher.example");
    }

    #[test]
    fn what_is_no_e_mail_address_is_told() {
        let long_local = format!("{}@b.co", "x".repeat(65));
        let long_label = format!("a@{}.co", "x".repeat(64));
        let long = format!("a@{}co", "abcdefghi.".repeat(26));
        for bad in [
            "",
            "@",
            "a",
            "a@",
            "@b.co",
            "a@b",
            "a@@b.co",
            "a b@c.de",
            "a@b..co",
            "a@.co",
            "a@b.co\0",
            "a\r\n@b.co",
            "a@b_c.de",
            "a@b.co,c@d.ef",
            &long_local,
            &long_label,
            &long,
        ] {
            assert_eq!(email("/email", bad).unwrap_err().code, "invalid_email", "{bad:?}");
        }
    }

    #[test]
    fn lines_are_trimmed_bounded_and_plain() {
        assert_eq!(line("/name", "  Ana \n", 3).unwrap(), "Ana");
        assert_eq!(line("/name", "ünï", 3).unwrap(), "ünï");
        assert_eq!(line("/name", " \t", 3).unwrap_err().code, "required");
        assert_eq!(line("/name", "Anna", 3).unwrap_err().code, "too_long");
        assert_eq!(line("/name", "a\nb", 3).unwrap_err().code, "invalid_characters");
        assert_eq!(line("/name", "a\0b", 3).unwrap_err().code, "invalid_characters");
    }

    #[test]
    fn paragraphs_may_break_and_be_empty() {
        assert_eq!(paragraphs("/description", "a\r\n\tb\n", 9).unwrap(), "a\r\n\tb");
        assert_eq!(paragraphs("/description", "", 9).unwrap(), "");
        assert_eq!(paragraphs("/description", "a\u{7}", 9).unwrap_err().code, "invalid_characters");
        assert_eq!(paragraphs("/description", "aaaa", 3).unwrap_err().code, "too_long");
    }
}
