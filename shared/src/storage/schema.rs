//! Compares the schema of a database with the migrations of this program. A start on an up-to-date schema writes nothing.

use sqlx::migrate::Migrator;

use super::OpenError;

/// Whether all `migrations` are `applied`; an error if a newer version of the program has applied others.
pub(super) fn is_up_to_date(migrations: &Migrator, applied: &[(i64, Vec<u8>)]) -> Result<bool, OpenError> {
    if let Some((version, _)) = applied.iter().find(|(version, _)| !migrations.version_exists(*version)) {
        return Err(OpenError::NewerSchema(*version));
    }
    let is_applied = |(version, checksum): (i64, &[u8])| {
        applied.iter().any(|(known, sum)| *known == version && sum.as_slice() == checksum)
    };
    Ok(migrations.iter().map(|migration| (migration.version, &*migration.checksum)).all(is_applied))
}
