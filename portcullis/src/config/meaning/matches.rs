//! `match` of a route: which calls it takes.

use enforcer_traffic::{GrpcMatch, MatchSpec, PathSpec, ValueTest, ValuesSpec};

use super::super::read::Table;
use super::Meaning;

const PATHS: [&str; 4] = ["path", "path_exact", "path_template", "path_regex"];

impl Meaning<'_> {
    /// The conditions of the route; what only the compiled routes can tell is looked at later.
    pub(super) fn matches(&mut self, route: &Table) -> MatchSpec {
        let empty = Table::default();
        let table = route.table("match").unwrap_or(&empty);
        let mut hosts = table.texts("hosts");
        hosts.extend(table.text("host").cloned());
        let port = |port: &i64| u16::try_from(*port).ok();
        MatchSpec {
            hosts,
            grpc: self.grpc(table),
            path: self.path(table),
            methods: table.texts("method"),
            headers: self.values(table, "header"),
            query: self.values(table, "query"),
            cookies: self.values(table, "cookie"),
            identities: table.texts("source"),
            sources: table.texts("source_ip"),
            sni: table.texts("sni"),
            ports: table.integers("port").filter_map(port).collect(),
        }
    }

    fn path(&mut self, table: &Table) -> PathSpec {
        let written: Vec<_> =
            PATHS.into_iter().filter_map(|key| Some((key, table.text(key)?.clone()))).collect();
        let priority = table.integer("priority").and_then(|number| u32::try_from(*number).ok());
        if let [(first, _), (second, _), ..] = written.as_slice() {
            self.wrong(table, second, format!("`{first}` and `{second}` exclude each other"));
        }
        let Some((key, path)) = written.into_iter().next() else { return PathSpec::Any };
        if key != "path_regex" && priority.is_some() {
            self.wrong(
                table,
                "priority",
                "`priority` belongs to `path_regex`; other paths have their rank".to_owned(),
            );
        }
        if key != "path_regex" && !path.starts_with('/') {
            self.wrong(table, key, format!("`{path}` does not begin with /"));
        }
        if table.text("grpc").is_some() {
            self.wrong(table, key, format!("`{key}` and `grpc` exclude each other"));
        }
        match (key, priority) {
            ("path_exact", _) => PathSpec::Exact(path),
            ("path_template", _) => PathSpec::Template(path),
            ("path_regex", Some(priority)) => PathSpec::Regex { pattern: path, priority },
            ("path_regex", None) => {
                let text = "`path_regex` needs `priority`: patterns have no order of their own".to_owned();
                self.push("PC0102", table, "path_regex", text);
                PathSpec::Any
            }
            _ => PathSpec::Prefix(path),
        }
    }

    fn grpc(&mut self, table: &Table) -> Option<GrpcMatch> {
        let written = table.text("grpc")?;
        match written.split_once('/') {
            Some((service, "*")) if !service.is_empty() => {
                Some(GrpcMatch { service: service.to_owned(), method: None })
            }
            Some((service, method)) if !service.is_empty() && !method.is_empty() => {
                Some(GrpcMatch { service: service.to_owned(), method: Some(method.to_owned()) })
            }
            _ => {
                let text = format!("`{written}` is not package.Service/Method or package.Service/*");
                self.wrong(table, "grpc", text);
                None
            }
        }
    }

    fn values(&mut self, table: &Table, key: &str) -> Vec<ValuesSpec> {
        table.tables(key).iter().filter_map(|table| self.value(table)).collect()
    }

    fn value(&mut self, table: &Table) -> Option<ValuesSpec> {
        let tests = [
            ("exact", table.text("exact").cloned().map(ValueTest::Exact)),
            ("prefix", table.text("prefix").cloned().map(ValueTest::Prefix)),
            ("regex", table.text("regex").cloned().map(ValueTest::Regex)),
        ];
        let mut written = tests.into_iter().filter_map(|(key, test)| Some((key, test?)));
        let (first, second) = (written.next(), written.next());
        if let (Some((first, _)), Some((second, _))) = (&first, &second) {
            self.wrong(table, second, format!("`{first}` and `{second}` exclude each other"));
        }
        let values = table.text("values").map(String::as_str);
        match (&first, values) {
            (Some((key, _)), None) => {
                let text = format!("`{key}` needs `values`: a name may have several values");
                let fault = self.fault("PC0102", table, key, text);
                self.messages
                    .push(fault.help("write values = \"all\", or values = \"any\" where one is enough"));
            }
            (None, Some("all")) => {
                let text = "`values` says nothing without `exact`, `prefix` or `regex`".to_owned();
                self.wrong(table, "values", text);
            }
            _ => {}
        }
        Some(ValuesSpec {
            name: table.text("name")?.clone(),
            test: first.map_or(ValueTest::Present, |(_, test)| test),
            all: values == Some("all"),
        })
    }
}
