//! Signing keys of access tokens: reads the key file, or creates it, and refuses weak and exposed keys.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rand::Rng as _;
use rustix::process::{Gid, getegid, getgroups};

/// Shortest key accepted, in bytes: the output size of HMAC-SHA-256 (RFC 7518, section 3.2).
const MIN_KEY_BYTES: usize = 32;

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or made.
    #[error("cannot use the key file: {0}")]
    Io(#[from] std::io::Error),
    /// Others on this machine could read the keys.
    #[error(
        "the key file can be read or changed by others than its owner: chmod 600 it, or 440 with a group of this process"
    )]
    Exposed,
    /// A line is not a key.
    #[error("line {0} of the key file is not a hexadecimal key of at least 32 bytes")]
    Malformed(usize),
    /// A key is one that anybody would guess.
    #[error("the key in line {0} of the key file is too regular to be secret")]
    Weak(usize),
    /// There is no line.
    #[error("the key file is empty")]
    Empty,
}

/// Reads the keys in `path`, the signing one first; makes the file with a random key if it is not there.
pub fn load_or_create(path: &Path) -> Result<Vec<Vec<u8>>, KeyError> {
    if !path.exists() {
        create(path)?;
    }
    let file = File::open(path)?;
    let about = file.metadata()?;
    let own = own_groups()?;
    if is_exposed(about.mode(), about.gid(), &own) {
        return Err(KeyError::Exposed);
    }
    let keys: Vec<Vec<u8>> = std::io::read_to_string(file)?
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(index, line)| parse(line.trim(), index + 1))
        .collect::<Result<_, _>>()?;
    if keys.is_empty() {
        Err(KeyError::Empty)
    } else {
        Ok(keys)
    }
}

/// The groups of this process. A secret that Kubernetes mounts belongs to root and to one of the further groups.
fn own_groups() -> std::io::Result<Vec<u32>> {
    let further = getgroups()?;
    Ok(further.into_iter().chain([getegid()]).map(Gid::as_raw).collect())
}

/// True if a file of this mode and group may be used by others than its owner, reading by one of our `own` groups aside.
fn is_exposed(mode: u32, group: u32, own: &[u32]) -> bool {
    let allowed = if own.contains(&group) { 0o040 } else { 0 };
    mode & 0o077 & !allowed != 0
}

fn parse(line: &str, number: usize) -> Result<Vec<u8>, KeyError> {
    let key = hex::decode(line).ok().filter(|key| key.len() >= MIN_KEY_BYTES);
    let key = key.ok_or(KeyError::Malformed(number))?;
    let values: HashSet<u8> = key.iter().copied().collect();
    let steps: HashSet<u8> = key.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
    // 32 random bytes hold about 30 distinct values and as many distinct steps; fewer than 12 do not happen by chance.
    if values.len().min(steps.len()) < 12 {
        return Err(KeyError::Weak(number));
    }
    Ok(key)
}

/// Writes a key beside `path` and links it there, so that gateways that start together all use the same.
fn create(path: &Path) -> Result<(), KeyError> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent)?;
    }
    let mut key = [0; MIN_KEY_BYTES];
    rand::rng().fill_bytes(&mut key);
    let line = format!("{}\n", hex::encode(key));
    let draft = path.with_extension(format!("{:x}.new", rand::random::<u64>()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(line.as_bytes())?;
    file.sync_all()?;
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown};

    use super::*;

    #[test]
    fn the_first_start_makes_a_key_that_later_starts_keep() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/signing.key");
        let keys = load_or_create(&path).unwrap();
        assert_eq!(keys[0].len(), 32);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(load_or_create(&path).unwrap(), keys);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn weak_and_exposed_keys_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("signing.key");
        let with = |content: &str, mode: u32| {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            load_or_create(&path)
        };
        let good = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\n";
        assert!(with(good, 0o600).is_ok());
        assert_eq!(with(&format!("{good}\n{good}"), 0o600).unwrap().len(), 2);
        assert!(matches!(with(good, 0o644), Err(KeyError::Exposed)));
        assert!(matches!(with("", 0o600), Err(KeyError::Empty)));
        assert!(matches!(with("secret", 0o600), Err(KeyError::Malformed(1))));
        assert!(matches!(with(&"ab".repeat(31), 0o600), Err(KeyError::Malformed(1))));
        let counted = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
        for weak in [&"ab".repeat(32), counted] {
            assert!(matches!(with(weak, 0o600), Err(KeyError::Weak(1))));
        }
    }

    #[test]
    fn a_key_readable_by_an_own_group_is_accepted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("signing.key");
        create(&path).unwrap();
        let with = |mode: u32| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            load_or_create(&path)
        };
        for group in own_groups().unwrap() {
            chown(&path, None, Some(group)).unwrap();
            for mode in [0o440, 0o640, 0o400] {
                assert!(with(mode).is_ok(), "{mode:o} of group {group}");
            }
            for mode in [0o444, 0o460, 0o450, 0o404, 0o442] {
                assert!(matches!(with(mode), Err(KeyError::Exposed)), "{mode:o} of group {group}");
            }
        }
    }

    #[test]
    fn a_key_readable_by_a_foreign_group_is_exposed() {
        assert!(is_exposed(0o100_440, 7, &[5, 6]));
        assert!(!is_exposed(0o100_440, 6, &[5, 6]));
        assert!(!is_exposed(0o100_400, 7, &[5, 6]));
    }
}
