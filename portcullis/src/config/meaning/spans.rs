//! Where spans of sampled calls go: what the file says, and the variables of OpenTelemetry, which win (OB5).

use super::super::meant::Spans;
use super::super::read::Table;
use super::Meaning;
use super::otlp::{Place, collector, variable, written};

/// Behind the address of a collector (OTLP 1.x, HTTP).
const PATH: &str = "/v1/traces";

impl Meaning<'_> {
    pub(super) fn spans(&mut self, section: &Table) -> Option<Spans> {
        let written = section.address("spans").and_then(|address| written(address, PATH));
        let share = section.integer("span_share").and_then(|share| u32::try_from(*share).ok()).unwrap_or(0);
        match told(&variable, written, share) {
            Ok(spans) => spans,
            Err(text) => {
                self.wrong(section, "spans", text);
                None
            }
        }
    }
}

/// What holds after the variables. Those of samplers say which share of calls without a trace begin one.
fn told(
    variable: &dyn Fn(&str) -> Option<String>,
    written: Option<Place>,
    share: u32,
) -> Result<Option<Spans>, String> {
    let Some(collector) = collector(variable, "TRACES", (PATH, true), written)? else { return Ok(None) };
    let ratio = || {
        let word = variable("OTEL_TRACES_SAMPLER_ARG").unwrap_or_else(|| "1".to_owned());
        let ratio = word.parse::<f64>().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
        ratio
            .map(in_10_000)
            .ok_or_else(|| format!("OTEL_TRACES_SAMPLER_ARG: `{word}` is no share from 0 to 1"))
    };
    let share = match variable("OTEL_TRACES_SAMPLER").as_deref() {
        None => share,
        Some("always_on" | "parentbased_always_on") => 10_000,
        Some("always_off" | "parentbased_always_off") => 0,
        Some("traceidratio" | "parentbased_traceidratio") => ratio()?,
        Some(other) => return Err(format!("OTEL_TRACES_SAMPLER: `{other}` is not known here")),
    };
    Ok(Some(Spans { collector, share }))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "INVARIANT: a share lies from 0 to 1"
)]
fn in_10_000(ratio: f64) -> u32 {
    (ratio * 10_000.0).round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)], written: bool) -> Result<Option<Spans>, String> {
        let find = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        told(&find, written.then(|| ("10.0.0.1".to_owned(), 4318, PATH.to_owned())), 7)
    }

    #[test]
    fn ob5_the_variables_of_opentelemetry_beat_the_file() {
        assert_eq!(with(&[], false), Ok(None));
        let spans = with(&[], true).unwrap().unwrap();
        assert_eq!(
            (spans.collector.to_string().as_str(), spans.share),
            ("http://10.0.0.1:4318/v1/traces", 7)
        );
        for (name, url, collector) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://otel:4319", "http://otel:4319/v1/traces"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://otel/base/", "http://otel:4318/base/v1/traces"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://[::1]:1", "http://[::1]:1/v1/traces"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://otel:1/x", "http://otel:1/x"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://otel:1", "http://otel:1/"),
        ] {
            assert_eq!(
                with(&[(name, url)], true).unwrap().unwrap().collector.to_string(),
                collector,
                "{url}"
            );
        }
        for url in
            ["https://otel:1", "otel:4318", "http://", "http://a b:1", "http://otel:x", "http://o:1/a b"]
        {
            assert!(with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", url)], true).is_err(), "{url}");
        }
        assert_eq!(with(&[("OTEL_SDK_DISABLED", "true")], true), Ok(None));
        let named = [
            ("OTEL_SERVICE_NAME", "edge"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a=1, service.name=x,service.version=9"),
        ];
        let resource = with(&named, true).unwrap().unwrap().collector.resource;
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(resource, [pair("service.name", "edge"), pair("service.version", "9"), pair("a", "1")]);
    }

    #[test]
    fn ob5_a_sampler_says_which_calls_begin_a_trace() {
        for (sampler, argument, share) in [
            ("always_on", "", 10_000),
            ("parentbased_always_off", "", 0),
            ("parentbased_traceidratio", "0.25", 2_500),
            ("traceidratio", "0.00004", 0),
        ] {
            let variables = [("OTEL_TRACES_SAMPLER", sampler), ("OTEL_TRACES_SAMPLER_ARG", argument)];
            assert_eq!(with(&variables, true).unwrap().unwrap().share, share, "{sampler} {argument}");
        }
        for (sampler, argument) in [("jaeger_remote", ""), ("traceidratio", "2"), ("traceidratio", "x")] {
            let variables = [("OTEL_TRACES_SAMPLER", sampler), ("OTEL_TRACES_SAMPLER_ARG", argument)];
            assert!(with(&variables, true).is_err(), "{sampler} {argument}");
        }
    }
}
