//! What a scraper sees, and what counting costs.

use super::{scrape::Form, *};
use std::time::Duration;

const OPEN: &str = "application/openmetrics-text; version=1.0.0";

fn scraped() -> Metrics {
    let metrics = Metrics::new();
    let calls = metrics.counter("portcullis_requests", "Calls.", &["route", "code"]);
    calls.with(&["a", "200"]).add(2);
    calls.with(&["a", "200"]).inc();
    calls.with(&["b\"\n\\", "500"]).inc();
    metrics.gauge("portcullis_open", "Open.", &[]).with(&[]).set(-7);
    let took = metrics.histogram("portcullis_took_seconds", "Took.", &["route"]).with(&["a"]);
    [300, 600, 20_000_000].map(Duration::from_micros).iter().for_each(|took_| took.observe(*took_));
    metrics
}

#[test]
fn ob1_openmetrics_is_written_as_the_standard_wants() {
    let (kind, text) = scraped().render(OPEN);
    assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    for line in [
        "# HELP portcullis_requests Calls",
        "# TYPE portcullis_requests counter",
        "portcullis_requests_total{route=\"a\",code=\"200\"} 3",
        "portcullis_requests_total{route=\"b\\\"\\n\\\\\",code=\"500\"} 1",
        "# TYPE portcullis_open gauge",
        "portcullis_open -7",
        "# TYPE portcullis_took_seconds histogram",
        "portcullis_took_seconds_bucket{le=\"0.00025\",route=\"a\"} 0",
        "portcullis_took_seconds_bucket{le=\"0.0005\",route=\"a\"} 1",
        "portcullis_took_seconds_bucket{le=\"0.001\",route=\"a\"} 2",
        "portcullis_took_seconds_bucket{le=\"10.0\",route=\"a\"} 2",
        "portcullis_took_seconds_bucket{le=\"+Inf\",route=\"a\"} 3",
        "portcullis_took_seconds_count{route=\"a\"} 3",
        "portcullis_took_seconds_sum{route=\"a\"} 20.0009",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\nis missing in\n{text}");
    }
    assert!(text.ends_with("\n# EOF\n"));
}

#[test]
fn ob1_a_scraper_of_the_old_form_gets_the_old_form() {
    let (kind, text) = scraped().render("text/plain");
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    for line in [
        "# HELP portcullis_requests_total Calls",
        "# TYPE portcullis_requests_total counter",
        "portcullis_requests_total{route=\"a\",code=\"200\"} 3",
        "portcullis_requests_total{route=\"b\\\"\\n\\\\\",code=\"500\"} 1",
        "portcullis_open -7",
        "portcullis_took_seconds_bucket{le=\"+Inf\",route=\"a\"} 3",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\nis missing in\n{text}");
    }
    assert!(!text.contains("# EOF") && !text.contains("_total_total"), "{text}");
}

#[test]
fn ob1_the_form_follows_the_accept_header() {
    let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
    for (accept, form) in [
        (prometheus, Form::Open),
        ("application/openmetrics-text", Form::Open),
        ("APPLICATION/OpenMetrics-Text ; Version=\"1.0.0\"", Form::Open),
        ("text/plain;q=0.5, application/openmetrics-text;q=0.5", Form::Open),
        ("text/plain, application/openmetrics-text;q=0.9", Form::Classic),
        ("application/openmetrics-text;version=0.0.1", Form::Classic),
        ("application/openmetrics-text;q=0", Form::Classic),
        ("application/openmetrics-text;q=much", Form::Classic),
        ("application/openmetrics-textual", Form::Classic),
        ("*/*", Form::Classic),
        ("", Form::Classic),
        (";;,,=;q=", Form::Classic),
    ] {
        assert_eq!(Form::of(accept), form, "{accept}");
    }
}

#[test]
fn a_family_without_series_is_not_written() {
    let metrics = Metrics::new();
    let _family = metrics.counter("a", "A.", &["x"]);
    assert_eq!(metrics.render("").1, "");
    assert_eq!(metrics.render(OPEN).1, "# EOF\n");
}

#[test]
fn the_same_name_gives_the_same_family_with_or_without_suffix() {
    let metrics = Metrics::new();
    metrics.counter("a", "A.", &[]).with(&[]).inc();
    metrics.counter("a_total", "A.", &[]).with(&[]).inc();
    let text = metrics.render("").1;
    assert!(text.contains("a_total 2"), "{text}");
    assert_eq!(text.matches("# TYPE").count(), 1);
}

#[test]
fn a_name_used_for_two_things_is_written_as_the_first() {
    let metrics = Metrics::new();
    metrics.counter("a", "A.", &["x"]).with(&["1"]).inc();
    metrics.gauge("a", "A.", &["x"]).with(&["1"]).set(5);
    metrics.counter("a", "A.", &["y"]).with(&["1"]).inc();
    assert_eq!(metrics.render("").1, "# HELP a_total A\n# TYPE a_total counter\na_total{x=\"1\"} 1\n");
}

#[test]
fn label_values_that_are_missing_or_too_many_do_no_harm() {
    let metrics = Metrics::new();
    let family = metrics.counter("a", "A.", &["x", "y"]);
    family.with(&["1"]).inc();
    family.with(&["1", "2", "3"]).inc();
    let text = metrics.render("").1;
    assert!(text.contains("a_total{x=\"1\",y=\"\"} 1\na_total{x=\"1\",y=\"2\"} 1\n"), "{text}");
}

#[test]
fn ob1_series_beyond_the_cap_are_counted_as_other() {
    let metrics = Metrics::new();
    let family = metrics.counter("a", "A.", &["x"]);
    for n in 0..MAX_SERIES + 5 {
        family.with(&[&n.to_string()]).inc();
    }
    family.with(&["7"]).inc();
    let text = metrics.render("").1;
    assert!(text.contains("a_total{x=\"other\"} 5\n") && text.contains("a_total{x=\"7\"} 2\n"));
    assert!(text.contains("portcullis_metrics_overflow_total{family=\"a\"} 5\n"));
    assert_eq!(text.lines().filter(|line| line.starts_with("a_total{")).count(), MAX_SERIES + 1);
}

#[test]
fn holders_of_a_counter_write_apart_and_shards_are_as_many_as_holders() {
    let metrics = Metrics::new();
    let family = metrics.counter("a", "A.", &[]);
    let (one, two) = (family.with(&[]), family.with(&[]));
    one.inc();
    two.add(2);
    assert_eq!((one.get(), two.get()), (1, 2));
    drop(one);
    for _ in 0..100 {
        family.with(&[]).inc();
    }
    let shards = family.0.series.lock().values().map(Vec::len).sum::<usize>();
    assert_eq!(shards, 2, "what nobody holds is used again");
    assert!(metrics.render("").1.contains("a_total 103\n"), "and nothing is lost");
}

#[test]
fn holders_of_a_gauge_share_it() {
    let metrics = Metrics::new();
    let family = metrics.gauge("a", "A.", &[]);
    family.with(&[]).set(1);
    family.with(&[]).set(1);
    family.with(&[]).add(2);
    assert!(metrics.render("").1.contains("a 3\n"));
}

#[test]
fn counting_in_many_threads_loses_nothing() {
    let metrics = Metrics::new();
    let (calls, took) = (metrics.counter("a", "A.", &[]), metrics.histogram("b_seconds", "B.", &[]));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (calls, took) = (calls.with(&[]), took.with(&[]));
            scope.spawn(move || {
                for n in 0..10_000 {
                    calls.inc();
                    took.observe(Duration::from_nanos(n));
                }
            });
        }
        let _text = metrics.render("");
    });
    let text = metrics.render("").1;
    assert!(text.contains("a_total 40000\n") && text.contains("b_seconds_count 40000\n"), "{text}");
}

#[test]
fn durations_at_a_bound_fall_below_it() {
    let metrics = Metrics::new();
    let took = metrics.histogram("b_seconds", "B.", &[]).with(&[]);
    for nanos in [0, 100_000, 100_001, 10_000_000_000, 10_000_000_001] {
        took.observe(Duration::from_nanos(nanos));
    }
    took.observe(Duration::MAX);
    let text = metrics.render("").1;
    let count = |le: &str| {
        let start = format!("b_seconds_bucket{{le=\"{le}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&start)).unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(["0.0001", "0.00025", "10.0", "+Inf"].map(count), [2, 3, 4, 6]);
}

#[test]
fn ob2_families_are_listed_for_the_reference() {
    let list = scraped().families();
    let names: Vec<&str> = list.iter().map(|info| info.name).collect();
    assert_eq!(names, [OVERFLOW, "portcullis_open", "portcullis_requests", "portcullis_took_seconds"]);
    let calls = FamilyInfo {
        name: "portcullis_requests",
        help: "Calls.",
        labels: &["route", "code"],
        kind: Kind::Counter,
    };
    assert_eq!(list[2], calls);
}

#[test]
fn ob5_an_exporter_reads_what_a_scrape_tells() {
    let metrics = scraped();
    metrics.counter("portcullis_never", "Nobody counts in it.", &["route"]);
    let read = metrics.read();
    let of = |name: &str| {
        let family = read.iter().find(|family| family.info.name == name);
        family.map(|family| (family.info.kind, family.series.clone()))
    };
    let labels = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
    let calls =
        vec![(labels(&["a", "200"]), Read::Counter(3)), (labels(&["b\"\n\\", "500"]), Read::Counter(1))];
    assert_eq!(of("portcullis_requests"), Some((Kind::Counter, calls)));
    assert_eq!(of("portcullis_open"), Some((Kind::Gauge, vec![(labels(&[]), Read::Gauge(-7))])));
    let (kind, took) = of("portcullis_took_seconds").unwrap();
    let Read::Histogram { counts, sum } = &took[0].1 else { panic!("{took:?}") };
    assert_eq!((kind, *sum), (Kind::Histogram, Duration::from_micros(20_000_900)));
    let bounds: Vec<_> = Histogram::bounds().collect();
    assert_eq!(counts.len(), bounds.len() + 1);
    for (at, wanted) in [(2, 1), (3, 1), (bounds.len(), 1)] {
        assert_eq!(counts[at], wanted, "bucket {at}");
    }
    assert_eq!(counts.iter().sum::<u64>(), 3);
    assert_eq!(of("portcullis_never"), None);
}
