//! Registrations: what somebody sends, and the check of all its fields.

use shared::domain::{Email, Invalid, PublicId, Username};
use uuid::Uuid;

use crate::auth::{common_passwords, passwords};
use crate::config::AccountArgs;

/// What somebody registers with, as they sent it.
pub struct Registration {
    /// E-mail address.
    pub email: String,
    /// Shown name.
    pub username: String,
    /// Password.
    pub password: String,
    /// Name in URLs; a UUID is made up if it is left out.
    pub public_id: Option<String>,
}

/// A registration whose fields are valid.
pub(super) struct Candidate {
    pub(super) email: Email,
    pub(super) username: Username,
    pub(super) password: String,
    pub(super) public_id: PublicId,
}

impl Candidate {
    /// Checks all fields and returns the errors of all of them.
    pub(super) fn parse(registration: Registration, settings: &AccountArgs) -> Result<Self, Vec<Invalid>> {
        let Registration {
            email: raw_email,
            username: raw_username,
            password,
            public_id,
        } = registration;
        let email = Email::parse_new(&raw_email, settings.strict_email);
        let username = Username::parse_new(&raw_username);
        let checked = check_length(&password, usize::from(settings.password_min_length)).and_then(|()| {
            if settings.allow_weak_passwords {
                Ok(())
            } else {
                common_passwords::check(&password, &[&raw_email, &raw_username])
            }
        });
        let public_id = PublicId::parse_new(&public_id.unwrap_or_else(|| Uuid::now_v7().to_string()));
        match (email, username, checked, public_id) {
            (Ok(email), Ok(username), Ok(()), Ok(public_id)) => Ok(Self {
                email,
                username,
                password,
                public_id,
            }),
            (email, username, checked, public_id) => {
                let invalid = [email.err(), username.err(), checked.err(), public_id.err()];
                Err(invalid.into_iter().flatten().collect())
            }
        }
    }
}

fn check_length(password: &str, min: usize) -> Result<(), Invalid> {
    match password.chars().count() {
        length if length < min => {
            Err(Invalid::new("password", "too_short", format!("Must have at least {min} characters.")))
        }
        length if length > passwords::MAX_LENGTH => {
            let message = format!("Must have at most {} characters.", passwords::MAX_LENGTH);
            Err(Invalid::new("password", "too_long", message))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::config::Config;

    fn parse(email: &str, username: &str, password: &str, public_id: Option<&str>) -> Result<Candidate, Vec<Invalid>> {
        let registration = Registration {
            email: email.to_owned(),
            username: username.to_owned(),
            password: password.to_owned(),
            public_id: public_id.map(str::to_owned),
        };
        Candidate::parse(registration, &Config::parse_from(["gateway"]).accounts)
    }

    #[test]
    fn every_invalid_field_is_reported() {
        let invalid = parse("", "", "short", Some("..")).err().unwrap();
        let fields: Vec<_> = invalid.iter().map(|invalid| &*invalid.field).collect();
        assert_eq!(fields, ["email", "username", "password", "public_id"]);
    }

    #[test]
    fn a_missing_public_id_is_a_uuid() {
        let candidate = parse("ann", "ann", "a quiet harbour", None).ok().unwrap();
        assert!(Uuid::parse_str(candidate.public_id.as_str()).is_ok());
    }
}
