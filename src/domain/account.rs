//! People's accounts: what a password may be, what a key may do.

use jiff::Timestamp;

use super::ids::{ApiKeyId, UserId};
use super::refusal::FieldError;

/// Shortest and longest password, in characters.
const PASSWORD: std::ops::RangeInclusive<usize> = 8..=128;
/// The password of the demo's people, which opens nothing outside the demo.
pub const DEMO_PASSWORD: &str = "happening-demo";
/// How every API key begins, so that people and scanners of leaked secrets know one.
pub const API_KEY_PREFIX: &str = "hk_";

/// What a person may do on the whole instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserRole {
    /// Books, and organises where an organisation lets them.
    User,
    /// Operates the instance.
    Admin,
}

impl UserRole {
    /// The name in tokens, tables and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Admin => "admin",
        }
    }

    /// The role of that name.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "user" => Some(Self::User),
            "admin" => Some(Self::Admin),
            _ => None,
        }
    }
}

/// A person with an account.
#[derive(Clone, Debug)]
pub struct User {
    /// Who.
    pub id: UserId,
    /// Lower case; shown to the owner and to admins only.
    pub email: String,
    /// As they want to be called.
    pub name: String,
    /// What they may do on the instance.
    pub role: UserRole,
    /// Since when.
    pub created_at: Timestamp,
    /// Rises with every change (`ETag`).
    pub version: i64,
}

/// What an API key may be used for. A signed-in person may do all that their roles allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Read the own profile, inbox and memberships.
    ProfileRead,
    /// Change them.
    ProfileWrite,
    /// Read events that the public cannot see, and who booked.
    EventsRead,
    /// Create and change events and organisations.
    EventsWrite,
    /// Read own bookings.
    BookingsRead,
    /// Book and cancel.
    BookingsWrite,
    /// Operate the instance (needs the role `admin` as well).
    Admin,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 7] = [
        Self::ProfileRead,
        Self::ProfileWrite,
        Self::EventsRead,
        Self::EventsWrite,
        Self::BookingsRead,
        Self::BookingsWrite,
        Self::Admin,
    ];

    /// The name in requests and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::ProfileRead => "profile:read",
            Self::ProfileWrite => "profile:write",
            Self::EventsRead => "events:read",
            Self::EventsWrite => "events:write",
            Self::BookingsRead => "bookings:read",
            Self::BookingsWrite => "bookings:write",
            Self::Admin => "admin",
        }
    }

    /// The scope of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }
}

/// A key that stands for a person, without its secret.
#[derive(Clone, Debug)]
pub struct ApiKey {
    /// Which.
    pub id: ApiKeyId,
    /// Whose.
    pub user_id: UserId,
    /// What its owner calls it.
    pub name: String,
    /// Its first characters, to tell keys apart.
    pub prefix: String,
    /// What it may be used for.
    pub scopes: Vec<Scope>,
    /// Since when.
    pub created_at: Timestamp,
    /// Until when; `None` is until revoked.
    pub expires_at: Option<Timestamp>,
}

/// Checks a new password's length. Its content is its owner's affair (NIST SP 800-63B §5.1.1.2).
///
/// # Errors
/// `out_of_range`.
pub fn password(pointer: &str, raw: &str) -> Result<(), FieldError> {
    if PASSWORD.contains(&raw.chars().count()) {
        Ok(())
    } else {
        let detail = format!("must be {} to {} characters", PASSWORD.start(), PASSWORD.end());
        Err(FieldError::new(pointer, "out_of_range", detail))
    }
}

/// The scopes of those names, each once. At least one, and all of them known.
///
/// # Errors
/// `required`, `too_many`, or `unknown_scope` for each name that is none.
pub fn scopes(pointer: &str, names: &[String]) -> Result<Vec<Scope>, Vec<FieldError>> {
    if names.is_empty() {
        return Err(vec![FieldError::new(pointer, "required", "must name at least one scope")]);
    }
    if names.len() > Scope::ALL.len() {
        let detail = format!("must name at most {} scopes", Scope::ALL.len());
        return Err(vec![FieldError::new(pointer, "too_many", detail)]);
    }
    let mut scopes = Vec::new();
    let mut errors = Vec::new();
    for (index, name) in names.iter().enumerate() {
        match Scope::parse(name) {
            Some(scope) if scopes.contains(&scope) => {}
            Some(scope) => scopes.push(scope),
            None => {
                let known = Scope::ALL.map(Scope::name).join(", ");
                let detail = format!("{name:?} is none of {known}");
                errors.push(FieldError::new(
                    &format!("{pointer}/{index}"),
                    "unknown_scope",
                    detail,
                ));
            }
        }
    }
    if errors.is_empty() { Ok(scopes) } else { Err(errors) }
}

/// Who is asking, as proven by a token or a key; never taken from a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Who.
    pub user_id: UserId,
    /// What they may do on the instance.
    pub role: UserRole,
    /// What the API key they used may be used for; `None`: they signed in and may do all.
    pub scopes: Option<Vec<Scope>>,
}

impl Caller {
    /// Whether the credential covers `scope`.
    pub fn covers(&self, scope: Scope) -> bool {
        self.scopes.as_ref().is_none_or(|scopes| scopes.contains(&scope))
    }

    /// Whether they operate the instance, and the credential covers that.
    pub fn is_admin(&self) -> bool {
        self.role == UserRole::Admin && self.covers(Scope::Admin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_measured_in_characters() {
        for good in ["12345678", "ünïcødé!", &"ü".repeat(128)] {
            assert!(password("/password", good).is_ok(), "{good}");
        }
        for bad in ["", "1234567", &"x".repeat(129)] {
            let error = password("/password", bad).unwrap_err();
            assert_eq!((error.pointer.as_str(), error.code), ("/password", "out_of_range"));
        }
    }

    #[test]
    fn every_scope_and_role_has_a_name_of_its_own() {
        for scope in Scope::ALL {
            assert_eq!(Scope::parse(scope.name()), Some(scope));
        }
        for role in [UserRole::User, UserRole::Admin] {
            assert_eq!(UserRole::parse(role.name()), Some(role));
        }
        assert_eq!((Scope::parse("Admin"), UserRole::parse("")), (None, None));
    }

    #[test]
    fn unknown_scopes_are_all_named() {
        let names = |all: &[&str]| all.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let twice = scopes("/scopes", &names(&["admin", "events:read", "admin"])).unwrap();
        assert_eq!(twice, [Scope::Admin, Scope::EventsRead]);
        let wrong = scopes("/scopes", &names(&["x", "admin", ""])).unwrap_err();
        let pointers: Vec<_> = wrong.iter().map(|error| error.pointer.as_str()).collect();
        assert_eq!(pointers, ["/scopes/0", "/scopes/2"]);
        assert_eq!(scopes("/scopes", &[]).unwrap_err()[0].code, "required");
        assert_eq!(scopes("/scopes", &names(&["admin"; 8])).unwrap_err()[0].code, "too_many");
    }

    #[test]
    fn a_key_covers_its_scopes_and_a_person_all() {
        let person = |role, scopes| Caller { user_id: UserId(uuid::Uuid::nil()), role, scopes };
        let signed_in = person(UserRole::Admin, None);
        assert!(signed_in.covers(Scope::BookingsWrite) && signed_in.is_admin());
        let key = person(UserRole::Admin, Some(vec![Scope::EventsRead]));
        assert!(key.covers(Scope::EventsRead) && !key.covers(Scope::Admin) && !key.is_admin());
        assert!(!person(UserRole::User, Some(vec![Scope::Admin])).is_admin());
    }
}
