//! Organisations: who may do what in them, and how people come in.

use jiff::Timestamp;

use super::ids::{InvitationId, OrganizationId, UserId};
use super::refusal::FieldError;

/// What a member may do; later ones may do all that earlier ones may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemberRole {
    /// Belongs.
    Member,
    /// Runs events.
    Organizer,
    /// Runs the organisation.
    Owner,
}

impl MemberRole {
    /// The name in requests and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Organizer => "organizer",
            Self::Owner => "owner",
        }
    }

    /// The role of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Member, Self::Organizer, Self::Owner].into_iter().find(|role| role.name() == name)
    }
}

/// A group of people who hold events.
#[derive(Clone, Debug)]
pub struct Organization {
    /// Which.
    pub id: OrganizationId,
    /// What it is called.
    pub name: String,
    /// Its name in addresses; unique.
    pub slug: String,
    /// Since when.
    pub created_at: Timestamp,
    /// Rises with every change.
    pub version: i64,
}

/// Somebody's place in an organisation.
#[derive(Clone, Debug)]
pub struct Membership {
    /// Who.
    pub user_id: UserId,
    /// As they want to be called.
    pub name: String,
    /// What they may do.
    pub role: MemberRole,
    /// Since when.
    pub created_at: Timestamp,
}

/// How an invitation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvitationStatus {
    /// Waits for an answer.
    Pending,
    /// Led to a membership.
    Accepted,
    /// Was turned down.
    Declined,
    /// Was not answered in time.
    Expired,
}

impl InvitationStatus {
    /// The name in answers and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Accepted => "accepted",
            Self::Declined => "declined",
            Self::Expired => "expired",
        }
    }

    /// What a stored status means at `now`: a pending invitation expires by itself.
    pub fn at(stored: &str, expires_at: Timestamp, now: Timestamp) -> Self {
        match stored {
            "accepted" => Self::Accepted,
            "declined" => Self::Declined,
            _ if expires_at <= now => Self::Expired,
            _ => Self::Pending,
        }
    }
}

/// Somebody asked to join an organisation, by e-mail address.
#[derive(Clone, Debug)]
pub struct Invitation {
    /// Which.
    pub id: InvitationId,
    /// Into which organisation.
    pub organization_id: OrganizationId,
    /// Whom; may have no account yet.
    pub email: String,
    /// As what.
    pub role: MemberRole,
    /// How it stands.
    pub status: InvitationStatus,
    /// Since when.
    pub created_at: Timestamp,
    /// Until when it can be answered.
    pub expires_at: Timestamp,
}

/// The role of that name.
///
/// # Errors
/// `unknown_role`.
pub fn role(pointer: &str, name: &str) -> Result<MemberRole, FieldError> {
    let detail = "must be owner, organizer or member";
    MemberRole::parse(name).ok_or_else(|| FieldError::new(pointer, "unknown_role", detail))
}

/// Longest slug, in characters.
const SLUG_MAX: usize = 63;

/// A slug: lower-case letters, digits and single dashes within.
///
/// # Errors
/// `invalid_slug`.
pub fn slug(pointer: &str, raw: &str) -> Result<String, FieldError> {
    let well_formed = !raw.is_empty()
        && raw.len() <= SLUG_MAX
        && raw.split('-').all(|part| {
            !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        });
    if well_formed {
        Ok(raw.to_owned())
    } else {
        let detail = format!(
            "must be 1 to {SLUG_MAX} lower-case letters and digits, with single dashes within"
        );
        Err(FieldError::new(pointer, "invalid_slug", detail))
    }
}

/// A slug made from a name, to which a suffix makes it unique.
pub fn slug_from(name: &str, suffix: &str) -> String {
    let mut made = String::new();
    for c in name.chars() {
        if c.is_ascii_alphanumeric() {
            made.push(c.to_ascii_lowercase());
        } else if !made.is_empty() && !made.ends_with('-') {
            made.push('-');
        }
        if made.len() >= 40 {
            break;
        }
    }
    let made = made.trim_matches('-');
    if made.is_empty() { format!("org-{suffix}") } else { format!("{made}-{suffix}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_roles_may_do_what_earlier_ones_may() {
        assert!(MemberRole::Owner > MemberRole::Organizer);
        assert!(MemberRole::Organizer > MemberRole::Member);
        for name in ["owner", "organizer", "member"] {
            assert_eq!(role("/role", name).unwrap().name(), name);
        }
        assert_eq!(role("/role", "Owner").unwrap_err().code, "unknown_role");
    }

    #[test]
    fn slugs_are_plain() {
        for good in ["a", "a-b", "2026", &"x".repeat(63)] {
            assert_eq!(slug("/slug", good).unwrap(), good);
        }
        for bad in ["", "A", "a--b", "-a", "a-", "a b", "ä", "a\0", &"x".repeat(64)] {
            assert_eq!(slug("/slug", bad).unwrap_err().code, "invalid_slug", "{bad:?}");
        }
    }

    #[test]
    fn made_slugs_are_slugs() {
        for name in ["Hall of Fame!", "Übung & Co", "---", "日本", "", &"Wort ".repeat(60)] {
            let made = slug_from(name, "0a1b2c3d");
            assert_eq!(slug("/slug", &made).as_deref(), Ok(made.as_str()), "{name:?}");
            assert!(made.ends_with("0a1b2c3d"));
        }
        assert_eq!(slug_from("Hall of Fame!", "x"), "hall-of-fame-x");
    }

    #[test]
    fn only_pending_invitations_expire() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let status = |stored, now| InvitationStatus::at(stored, at(10), at(now));
        assert_eq!(status("pending", 9), InvitationStatus::Pending);
        assert_eq!(status("pending", 10), InvitationStatus::Expired);
        assert_eq!(status("accepted", 11), InvitationStatus::Accepted);
        assert_eq!(status("declined", 11), InvitationStatus::Declined);
    }
}
