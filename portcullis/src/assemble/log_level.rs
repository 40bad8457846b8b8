//! Another level of the log for a while, and then the configured one again (AE-01): who looks for a fault at night must not be
//! able to forget it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base_ports::{TaskHandle, Tasks};
use base_telemetry::logs::LogError;
use parking_lot::Mutex;

/// How long another level lasts.
pub(crate) const LASTS: Duration = Duration::from_secs(15 * 60);

type Set = dyn Fn(&str) -> Result<(), LogError> + Send + Sync;

/// The filter of the log of this process.
#[derive(Clone)]
pub(crate) struct LogLevel {
    set: Arc<Set>,
    configured: Arc<str>,
    lasts: Duration,
    ending: Arc<Mutex<Option<TaskHandle>>>,
    tasks: Tasks,
}

impl LogLevel {
    /// `set` changes the filter, which is `configured` now; another one lasts so long.
    pub(super) fn new(
        configured: &str,
        lasts: Duration,
        set: impl Fn(&str) -> Result<(), LogError> + Send + Sync + 'static,
    ) -> Self {
        let (set, tasks) = (Arc::new(set), Tasks::new("log"));
        Self { set, configured: configured.into(), lasts, ending: Arc::default(), tasks }
    }

    /// From now on it is `filter`, for a while; the configured one when it is empty.
    ///
    /// # Errors
    /// It is neither a level nor a filter, and the one before stays.
    pub(crate) fn set(&self, filter: &str) -> Result<(), LogError> {
        (self.set)(if filter.is_empty() { &self.configured } else { filter })?;
        let mut ending = self.ending.lock();
        ending.take().into_iter().for_each(|ending| ending.abort());
        if !filter.is_empty() {
            let (set, configured) = (Arc::clone(&self.set), Arc::clone(&self.configured));
            let lasts = self.lasts;
            *ending = Some(self.tasks.spawn("level", async move {
                tokio::time::sleep(lasts).await;
                match set(&configured) {
                    Ok(()) => {
                        tracing::info!(event = "log_level", level = %configured, "the level is the configured one again");
                    }
                    Err(error) => tracing::error!(event = "log_level", %error, "the level stays"),
                }
            }));
        }
        Ok(())
    }
}

impl fmt::Debug for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogLevel").field("configured", &self.configured).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ae_01_another_log_level_lasts_for_a_while_from_when_it_was_said_last() {
        let (say, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let lasts = Duration::from_millis(400);
        let level = LogLevel::new("info", lasts, move |filter| {
            say.send(filter.to_owned()).unwrap();
            Ok(())
        });
        level.set("debug").unwrap();
        tokio::time::sleep(lasts / 2).await;
        level.set("trace").unwrap();
        let said = tokio::time::Instant::now();
        let mut next = async || heard.recv().await.unwrap();
        assert_eq!(
            (next().await, next().await, next().await),
            ("debug".into(), "trace".into(), "info".to_owned())
        );
        assert!(said.elapsed() >= lasts, "after {:?}", said.elapsed());
        level.set("debug").unwrap();
        level.set("").unwrap();
        tokio::time::sleep(lasts * 2).await;
        assert_eq!((next().await, next().await), ("debug".into(), "info".to_owned()));
        drop(level);
        assert_eq!(heard.recv().await, None, "and not once more");
    }
}
