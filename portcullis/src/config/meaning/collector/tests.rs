//! Variables of OpenTelemetry against the file.

use super::*;

fn find(variables: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> {
    let variables: Vec<_> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    move |name| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
}

fn with(signal: Signal, variables: &[(&str, &str)], written: bool) -> Result<Option<Collector>, String> {
    let place =
        || Place { is_tls: false, host: "10.0.0.1".to_owned(), port: 4318, path: signal.path.to_owned() };
    told(&find(variables), signal, written.then(place), None)
}

fn url(signal: Signal, variables: &[(&str, &str)]) -> String {
    with(signal, variables, true).unwrap().unwrap().url()
}

#[test]
fn ob5_the_variables_of_opentelemetry_beat_the_file() {
    for signal in [TRACES, METRICS] {
        assert_eq!(with(signal, &[], false), Ok(None));
        assert_eq!(url(signal, &[]), format!("http://10.0.0.1:4318{}", signal.path));
        for (base, collector) in [
            ("http://otel:4319", "http://otel:4319"),
            ("http://otel/base/", "http://otel:4318/base"),
            ("http://[::1]:1", "http://[::1]:1"),
        ] {
            let told = url(signal, &[("OTEL_EXPORTER_OTLP_ENDPOINT", base)]);
            assert_eq!(told, format!("{collector}{}", signal.path));
        }
        let own = format!("OTEL_EXPORTER_OTLP_{}_ENDPOINT", signal.word);
        assert_eq!(url(signal, &[(own.as_str(), "http://otel:1/x")]), "http://otel:1/x");
        assert_eq!(url(signal, &[(own.as_str(), "http://otel:1")]), "http://otel:1/");
        for odd in ["ftp://otel:1", "otel:4318", "http://", "http://a b:1", "http://otel:x", "http://o:1/a b"]
        {
            assert!(with(signal, &[("OTEL_EXPORTER_OTLP_ENDPOINT", odd)], true).is_err(), "{odd}");
        }
        let exporter = format!("OTEL_{}_EXPORTER", signal.word);
        for (name, value) in [("OTEL_SDK_DISABLED", "true"), (exporter.as_str(), "none")] {
            assert_eq!(with(signal, &[(name, value)], true), Ok(None), "{name}");
        }
        assert!(with(signal, &[(exporter.as_str(), "zipkin")], true).is_err());
        assert!(with(signal, &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], true).is_err());
    }
    // A variable of one signal says nothing of the other.
    assert_eq!(with(METRICS, &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://otel:1")], false), Ok(None));
    let named = [
        ("OTEL_SERVICE_NAME", "edge"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=1, service.name=x,service.version=9"),
    ];
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let wanted = [pair("service.name", "edge"), pair("service.version", "9"), pair("a", "1")];
    assert_eq!(resource(&find(&named)), wanted);
}

#[test]
fn ob5_decisions_leave_only_where_they_are_asked_for() {
    let general = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://otel:4319");
    let own = ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://logs:1/in");
    assert_eq!(with(LOGS, &[], false), Ok(None));
    assert_eq!(with(LOGS, &[general], false), Ok(None), "that spans go somewhere says nothing of decisions");
    assert_eq!(with(LOGS, &[own, general], false).unwrap().unwrap().url(), "http://logs:1/in");
    assert_eq!(url(LOGS, &[]), "http://10.0.0.1:4318/v1/logs");
    assert_eq!(url(LOGS, &[general]), "http://otel:4319/v1/logs");
    assert_eq!(with(LOGS, &[own, ("OTEL_SDK_DISABLED", "true")], true), Ok(None));
}

#[test]
fn ob5_a_collector_at_https_is_verified_by_a_file_of_roots() {
    let tls = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://otel.example.org");
    let refused = with(METRICS, &[tls], false).unwrap_err();
    assert!(
        refused.contains("push_roots") && refused.contains("OTEL_EXPORTER_OTLP_CERTIFICATE"),
        "{refused}"
    );
    let general = ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/etc/roots.pem");
    let collector = with(METRICS, &[tls, general], false).unwrap().unwrap();
    assert_eq!(collector.url(), "https://otel.example.org:443/v1/metrics");
    assert_eq!(collector.roots, Some("/etc/roots.pem".into()));
    let own = ("OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE", "/etc/own.pem");
    let collector = with(METRICS, &[tls, general, own], false).unwrap().unwrap();
    assert_eq!(collector.roots, Some("/etc/own.pem".into()));
}

#[test]
fn ob5_headers_and_times_are_read_and_headers_are_not_shown() {
    let to = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://otel");
    let given = [to, ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer%20hidden, x-tenant=a=b")];
    let collector = with(TRACES, &given, false).unwrap().unwrap();
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(collector.headers, [pair("authorization", "Bearer hidden"), pair("x-tenant", "a=b")]);
    assert!(!format!("{collector:?}").contains("hidden"));
    for odd in ["hidden", "a b=hidden", "a=hidden%2", "a=hidden%0a", "a=hidden%ff"] {
        let refused = with(TRACES, &[to, ("OTEL_EXPORTER_OTLP_HEADERS", odd)], false).unwrap_err();
        assert!(!refused.contains("hidden"), "{refused}");
    }
    let limit = |value| with(TRACES, &[to, ("OTEL_EXPORTER_OTLP_TIMEOUT", value)], false);
    assert_eq!(limit("250").unwrap().unwrap().limit, Duration::from_millis(250));
    for odd in ["0", "-1", "1s", "99999999"] {
        assert!(limit(odd).is_err(), "{odd}");
    }
}

#[test]
fn ob5_a_sampler_says_which_calls_begin_a_trace() {
    assert_eq!(sampled(&find(&[]), 7), Ok(7));
    for (sampler, argument, share) in [
        ("always_on", "", 10_000),
        ("parentbased_always_off", "", 0),
        ("parentbased_traceidratio", "0.25", 2_500),
        ("traceidratio", "0.00004", 0),
    ] {
        let variables = [("OTEL_TRACES_SAMPLER", sampler), ("OTEL_TRACES_SAMPLER_ARG", argument)];
        assert_eq!(sampled(&find(&variables), 7), Ok(share), "{sampler} {argument}");
    }
    for (sampler, argument) in [("jaeger_remote", ""), ("traceidratio", "2"), ("traceidratio", "x")] {
        let variables = [("OTEL_TRACES_SAMPLER", sampler), ("OTEL_TRACES_SAMPLER_ARG", argument)];
        assert!(sampled(&find(&variables), 7).is_err(), "{sampler} {argument}");
    }
}
