//! What a report promises about a log.

use burst::{parse_time, read_log, tile, Record, Report, Span};

/// `count` lines, one a second, from noon on.
fn steady(count: u64) -> Vec<Record> {
    let noon = parse_time("2026-03-01T12:00:00Z").unwrap();
    (0..count)
        .map(|second| Record { at: noon + second, client: "10.0.0.7".to_owned(), status: 200 })
        .collect()
}

fn sample() -> Vec<Record> {
    read_log(include_bytes!("../sample/access.log").as_slice()).unwrap()
}

#[test]
fn every_line_is_in_exactly_one_window() {
    for width in [1, 7, 60] {
        let report = Report::new(&steady(180), width, 1.0);
        let counted: usize = report.rows.iter().map(|row| row.lines).sum();
        assert_eq!(counted, 180, "in windows of {width} s");
    }
}

#[test]
fn a_line_a_second_is_a_rate_of_one_in_every_window() {
    let report = Report::new(&steady(180), 60, 1.0);
    let rates: Vec<f64> = report.rows.iter().map(|row| row.rate).collect();
    assert_eq!(rates, [1.0, 1.0, 1.0]);
}

#[test]
fn a_line_a_second_is_a_rate_of_one_over_the_whole_log() {
    assert_eq!(Report::new(&steady(180), 60, 1.0).rate, 1.0);
}

#[test]
fn windows_begin_at_multiples_of_their_width() {
    let windows = tile(Span { start: 65, end: 185 }, 60);
    let starts: Vec<u64> = windows.iter().map(|window| window.start).collect();
    assert_eq!(starts, [60, 120, 180]);
}

#[test]
fn the_burst_of_the_sample_is_found_and_named() {
    let report = Report::new(&sample(), 60, 0.5);
    let bursts: Vec<_> = report.bursts().collect();
    assert_eq!(bursts.len(), 1);
    assert_eq!(bursts[0].busiest, Some(("10.0.0.42".to_owned(), 31)));
    assert_eq!(bursts[0].errors, 3);
}

#[test]
fn an_empty_log_has_an_empty_report() {
    let report = Report::new(&[], 60, 1.0);
    assert!(report.rows.is_empty());
    assert_eq!(report.rate, 0.0);
}

#[test]
fn a_bad_line_is_named_by_its_number() {
    let log = "# made by hand\n\n2026-03-01T12:00:00Z 10.0.0.7 GET / 200\nyesterday, about noon\n";
    let error = read_log(log.as_bytes()).unwrap_err();
    assert_eq!(error.to_string(), "line 4: the time is not like 2026-03-01T12:00:07Z");
}
