//! The command line.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::process::ExitCode;
use std::str::FromStr;

use burst::{read_log, Report};

const USAGE: &str = "usage: burst [--window SECONDS] [--limit RATE] [FILE | -]";

struct Options {
    window: u64,
    limit: f64,
    file: String,
}

fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("burst: {message}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match report(&options) {
        Ok(report) => {
            print!("{report}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("burst: {}: {message}", options.file);
            ExitCode::FAILURE
        }
    }
}

fn report(options: &Options) -> Result<Report, String> {
    let log: Box<dyn BufRead> = match options.file.as_str() {
        "-" => Box::new(io::stdin().lock()),
        path => Box::new(BufReader::new(File::open(path).map_err(|error| error.to_string())?)),
    };
    let records = read_log(log).map_err(|error| error.to_string())?;
    Ok(Report::new(&records, options.window, options.limit))
}

fn options(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { window: 60, limit: 1.0, file: "-".to_owned() };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--window" => options.window = value(&word, words.next())?,
            "--limit" => options.limit = value(&word, words.next())?,
            "-" => options.file = word,
            flag if flag.starts_with('-') => return Err(format!("unknown option `{flag}`")),
            _ => options.file = word,
        }
    }
    match options.window {
        0 => Err("--window: a window has at least one second".to_owned()),
        _ => Ok(options),
    }
}

fn value<T: FromStr>(option: &str, word: Option<String>) -> Result<T, String> {
    let word = word.ok_or_else(|| format!("{option} needs a value"))?;
    word.parse().map_err(|_| format!("{option}: `{word}` is not a number"))
}
