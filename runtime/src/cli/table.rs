//! Markdown tables, aligned so that they read well on a terminal too (as llama-bench prints them).

/// On which side the cells of a column are flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Renders a table; every row needs as many cells as there are columns. Ends with a line break.
pub(crate) fn markdown(columns: &[(&str, Align)], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(i, (title, _))| {
            let cells = rows
                .iter()
                .filter_map(|row| row.get(i))
                .map(|cell| cell.chars().count());
            cells.chain([title.chars().count(), 4]).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    let titles = columns
        .iter()
        .map(|(title, _)| (*title).to_owned())
        .collect::<Vec<_>>();
    push_row(&mut text, columns, &widths, &titles);
    for ((_, align), width) in columns.iter().zip(&widths) {
        text.push_str("| ");
        text.push_str(&"-".repeat(width - 1));
        text.push(if *align == Align::Right { ':' } else { '-' });
        text.push(' ');
    }
    text.push_str("|\n");
    for row in rows {
        push_row(&mut text, columns, &widths, row);
    }
    text
}

/// Bytes in the largest binary unit that keeps the number at one or above, as `1.50 GiB`.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{n} B")
    } else {
        format!("{value:.2} {}", UNITS[unit])
    }
}

fn push_row(text: &mut String, columns: &[(&str, Align)], widths: &[usize], cells: &[String]) {
    for (((_, align), width), cell) in columns.iter().zip(widths).zip(cells) {
        text.push_str("| ");
        let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
        match align {
            Align::Left => text.extend([cell.as_str(), &padding]),
            Align::Right => text.extend([&padding, cell.as_str()]),
        }
        text.push(' ');
    }
    text.push_str("|\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = vec![
            vec!["a".into(), "1".into()],
            vec!["longer".into(), "10000".into()],
        ];
        let text = markdown(&[("model", Align::Left), ("t/s", Align::Right)], &rows);
        let expected =
            "| model  |   t/s |\n| ------ | ----: |\n| a      |     1 |\n| longer | 10000 |\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn bytes_take_the_unit_that_fits() {
        for (n, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.50 KiB"),
            (3 << 30, "3.00 GiB"),
        ] {
            assert_eq!(bytes(n), text);
        }
        assert_eq!(bytes(u64::MAX), "16777216.00 TiB");
    }
}
