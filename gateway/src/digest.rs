//! Short digests that stand for values which must not be shown.

use sha2::{Digest as _, Sha256};

/// The first 16 bytes of the SHA-256 of all `parts`: enough to distinguish values, useless to find them.
///
/// Only the last part may vary in length, else two lists of parts could have the same bytes.
pub(crate) fn digest_of(parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    *hash.finalize().first_chunk().expect("a digest has 32 bytes")
}

/// The digest in hexadecimal.
pub(crate) fn short_digest(parts: &[&[u8]]) -> String {
    hex::encode(digest_of(parts))
}
