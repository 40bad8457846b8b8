//! What a gateway under test has counted.

use std::time::Duration;

use super::harness::Gateway;

impl Gateway {
    /// Waits until a series, named by the start of its line, has that value. A call is counted once its answer is
    /// out, so the caller may be faster.
    pub(super) async fn metric(&self, series: &str, value: u32) {
        let mut text = String::new();
        for _ in 0..300 {
            text = self.metrics.render("application/openmetrics-text").1;
            let line = text.lines().find(|line| line.starts_with(series));
            let found =
                line.and_then(|line| line.rsplit_once(' ')).map(|(_, found)| found.parse::<f64>().unwrap());
            if found == Some(f64::from(value)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{series} is not {value}:\n{text}");
    }
}
