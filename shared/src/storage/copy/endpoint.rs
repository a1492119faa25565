//! What a copy needs from each of its two databases, and the statements that both share.

use sqlx::FromRow;

use super::Table;

/// Tables whose rows with the highest ids are deleted, and whose ids are never given again: operators and entries of the accept log
/// name them.
pub(super) const NEVER_REUSED: [&str; 2] = ["dead_letters", "outbox"];

/// The most rows of one page.
pub(super) const PAGE_ROWS: i64 = 500;

/// A column of a table: its name, and its type in the words of its database.
#[derive(FromRow)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: String,
}

/// An endpoint of a copy. The methods without a body differ between the two databases; the others follow from them.
///
/// Rows are JSON objects in one form: numbers also for booleans, 32 hexadecimal digits for ids.
pub(super) trait Endpoint: Send + Sized {
    /// The columns of `table` in their order.
    async fn columns(&mut self, table: &Table) -> Result<Vec<Column>, sqlx::Error>;

    /// The expression that makes a JSON object of a row with these columns.
    fn object(columns: &[Column]) -> String;

    /// The value of `column` in the JSON object that is the parameter `$1`.
    fn value(column: &Column) -> String;

    /// The statement that reads rows for `table` from the parameter `$1`, a JSON array of objects.
    fn select_from_array(table: &Table, columns: &[Column]) -> String;

    /// Runs `statement`, with `parameter` as `$1` if there is one, and returns the first column of its rows.
    async fn read(&mut self, statement: String, parameter: Option<&str>) -> Result<Vec<String>, sqlx::Error>;

    /// Runs `statement`, with `parameter` as `$1` if there is one.
    async fn run(&mut self, statement: String, parameter: Option<String>) -> Result<(), sqlx::Error>;

    /// The number of rows in `table`.
    async fn count(&mut self, table: &Table) -> Result<i64, sqlx::Error>;

    /// The highest id that a row of `table` ever had, including deleted ones.
    async fn newest_id(&mut self, table: &'static str) -> Result<Option<i64>, sqlx::Error>;

    /// Makes new rows get keys above all that were copied, and those of the tables in `newest` ids above the ones given.
    async fn continue_keys(&mut self, newest: &[(&'static str, Option<i64>)]) -> Result<(), sqlx::Error>;

    /// Closes the connection.
    async fn close(self) -> Result<(), sqlx::Error>;

    /// The rows of `table` with the lowest keys above that of `row`, or from the first one on.
    async fn rows_after(&mut self, table: &Table, row: Option<&str>) -> Result<Vec<String>, sqlx::Error> {
        let columns = self.columns(table).await?;
        let key = table.key.join(", ");
        let above = match row {
            Some(_) => format!("AND ({key}) > ({})", key_values::<Self>(table, &columns)),
            None => String::new(),
        };
        let statement = format!(
            "SELECT {} FROM {} WHERE {} {above} ORDER BY {key} LIMIT {PAGE_ROWS}",
            Self::object(&columns),
            table.name,
            table.rows
        );
        self.read(statement, row).await
    }

    /// The row of `table` with the highest key.
    async fn last_row(&mut self, table: &Table) -> Result<Option<String>, sqlx::Error> {
        let columns = self.columns(table).await?;
        let order = list(table.key, |name| format!("{name} DESC"));
        let statement = format!("SELECT {} FROM {} ORDER BY {order} LIMIT 1", Self::object(&columns), table.name);
        Ok(self.read(statement, None).await?.pop())
    }

    /// The row of `table` with the key of `row`.
    async fn same_row(&mut self, table: &Table, row: &str) -> Result<Option<String>, sqlx::Error> {
        let columns = self.columns(table).await?;
        let statement = format!(
            "SELECT {} FROM {} WHERE ({}) = ({})",
            Self::object(&columns),
            table.name,
            table.key.join(", "),
            key_values::<Self>(table, &columns)
        );
        Ok(self.read(statement, Some(row)).await?.pop())
    }

    /// Writes rows, and replaces those with the same keys.
    async fn write(&mut self, table: &Table, rows: &[String]) -> Result<(), sqlx::Error> {
        let columns = self.columns(table).await?;
        let statement = format!(
            "INSERT INTO {} ({}) {} ON CONFLICT ({}) DO UPDATE SET {}",
            table.name,
            list(&columns, |column| column.name.clone()),
            Self::select_from_array(table, &columns),
            table.key.join(", "),
            list(&columns, |Column { name, .. }| format!("{name} = excluded.{name}")),
        );
        self.run(statement, Some(format!("[{}]", rows.join(",")))).await
    }

    /// Deletes all rows.
    async fn clear(&mut self, table: &Table) -> Result<(), sqlx::Error> {
        self.run(format!("DELETE FROM {}", table.name), None).await
    }
}

/// The values of the key of `table` in the JSON object that is the parameter `$1`.
fn key_values<E: Endpoint>(table: &Table, columns: &[Column]) -> String {
    let of_key = |name: &&str| columns.iter().find(|column| column.name == *name).map(E::value);
    table.key.iter().filter_map(of_key).collect::<Vec<_>>().join(", ")
}

/// Parts of a statement, one for each of `items`, between commas.
pub(super) fn list<T>(items: &[T], part: impl Fn(&T) -> String) -> String {
    items.iter().map(part).collect::<Vec<_>>().join(", ")
}
