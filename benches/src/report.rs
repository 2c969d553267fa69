//! What a program prints: the machine, a table for people, one JSON line for programs.
//!
//! Invariant: table and JSON line say the same, and both say how loaded the machine was.

use std::fs;

use serde_json::{Map, Value, json};

use crate::samples::Samples;

/// A table that is being filled.
#[derive(Debug)]
pub struct Report {
    program: &'static str,
    columns: Vec<&'static str>,
    rows: Vec<Vec<Value>>,
    load_before: String,
}

// === impl Report ===

impl Report {
    /// An empty table; call it before anything is measured, because it looks at the machine's load.
    pub fn new(program: &'static str, columns: &[&'static str]) -> Self {
        Self { program, columns: columns.to_vec(), rows: Vec::new(), load_before: load_average() }
    }

    /// A table of latencies.
    pub fn of_latencies(program: &'static str) -> Self {
        Self::new(program, &["what", "samples", "p50_ms", "p90_ms", "p99_ms", "max_ms"])
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<Value>) {
        assert_eq!(cells.len(), self.columns.len(), "a cell for each column");
        self.rows.push(cells);
    }

    /// Adds a row of a table of latencies.
    pub fn latency(&mut self, what: &str, samples: &Samples) {
        let quantile = |share| rounded(samples.quantile_ms(share), 3);
        self.row(vec![json!(what), json!(samples.len()), quantile(0.5), quantile(0.9), quantile(0.99), quantile(1.0)]);
    }

    /// Prints everything.
    pub fn print(self) {
        let load_after = load_average();
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let kernel = read("/proc/sys/kernel/osrelease");
        println!(
            "{}: {cores} cores, Linux {kernel}, load average {} before and {load_after} after",
            self.program, self.load_before
        );
        self.print_table();
        let object = |row: Vec<Value>| -> Map<String, Value> {
            self.columns.iter().map(|name| (*name).to_owned()).zip(row).collect()
        };
        let rows: Vec<_> = self.rows.into_iter().map(object).collect();
        let machine =
            json!({"cores": cores, "kernel": kernel, "load_before": self.load_before, "load_after": load_after});
        println!("{}", json!({"program": self.program, "machine": machine, "rows": rows}));
    }

    fn print_table(&self) {
        let head: Vec<String> = self.columns.iter().map(|name| (*name).to_owned()).collect();
        let body = self.rows.iter().map(|row| row.iter().map(text).collect());
        let lines: Vec<Vec<String>> = std::iter::once(head).chain(body).collect();
        let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        for line in &lines {
            let (first, rest) = line.split_first().expect("a table has columns");
            print!("{first:<width$}", width = widths[0]);
            for (cell, width) in rest.iter().zip(&widths[1..]) {
                print!("  {cell:>width$}");
            }
            println!();
        }
    }
}

/// A number with so many digits after its point.
pub fn rounded(number: f64, digits: i32) -> Value {
    let scale = 10_f64.powi(digits);
    json!((number * scale).round() / scale)
}

fn text(cell: &Value) -> String {
    cell.as_str().map_or_else(|| cell.to_string(), str::to_owned)
}

/// Of the last minute.
fn load_average() -> String {
    read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}
