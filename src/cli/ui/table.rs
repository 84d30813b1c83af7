//! Tables for people.

use super::terminal;
use crate::base::text;
use comfy_table::{ContentArrangement, Table, presets};

/// Below this width a table's columns are too narrow to be read, whatever is in them,
const NARROW: usize = 60;
/// and so are more than fit at this width each.
const COLUMN: usize = 9;

/// A table without lines around it, as wide as the terminal allows; where that is too narrow for columns, a line
/// for each value and an empty line between the rows.
pub fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let safe = |row: [String; N]| row.map(|value| text::escaped(&value).into_owned());
    arranged(head, rows.into_iter().map(safe), terminal::size().map(|(columns, _)| columns))
}

/// A row as a line of words: as many as there are values, whatever these hold.
pub fn words<const N: usize>(row: [String; N]) -> String {
    row.map(|value| text::word(&value).into_owned()).join(" ")
}

fn arranged<const N: usize>(
    head: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
    width: Option<usize>,
) -> String {
    if width.is_some_and(|width| width < NARROW.max(COLUMN * N)) {
        return blocks(head, rows);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head);
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(u16::try_from(width).unwrap_or(u16::MAX));
    }
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// The terminal breaks what is too long: an id or an address is copied whole.
fn blocks<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let block = |row: [String; N]| {
        let lines = head.iter().zip(row).map(|(name, value)| format!("{}: {value}", name.to_lowercase()));
        lines.collect::<Vec<_>>().join("\n")
    };
    rows.into_iter().map(block).collect::<Vec<_>>().join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(width: Option<usize>) -> String {
        let row = |name: &str| [name.to_owned(), "v12".to_owned(), format!("https://agents.example.com/agents/{name}")];
        arranged(["AGENT", "VERSION", "URL"], [row("agent"), row("another")], width)
    }

    #[test]
    fn a_wide_terminal_has_columns_a_narrow_one_lines() {
        insta::assert_snapshot!(shown(Some(80)), @r"
        AGENT    VERSION  URL
        agent    v12      https://agents.example.com/agents/agent
        another  v12      https://agents.example.com/agents/another
        ");
        insta::assert_snapshot!(shown(Some(20)), @r"
        agent: agent
        version: v12
        url: https://agents.example.com/agents/agent

        agent: another
        version: v12
        url: https://agents.example.com/agents/another
        ");
        assert_eq!(shown(Some(1)), shown(Some(NARROW - 1)));
    }

    #[test]
    fn a_terminal_that_does_not_say_its_width_gets_whole_lines() {
        assert_eq!(shown(None), shown(Some(200)));
    }

    #[test]
    fn a_row_has_as_many_words_as_values() {
        let row = ["a thread\nforged v9 running", "", "two\x1b[1A"].map(str::to_owned);
        assert_eq!(words(row), "a\\x20thread\\nforged\\x20v9\\x20running - two\\x1b[1A");
    }

    #[test]
    fn many_columns_need_more() {
        let shown = arranged(["A"; 9], [[(); 9].map(|()| "0123456789abcdef".to_owned())], Some(80));
        assert!(shown.starts_with("a: 0123456789abcdef\na: "), "{shown}");
    }
}
