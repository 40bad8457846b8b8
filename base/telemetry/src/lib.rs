//! Structured logs, metrics in the OpenMetrics text form, health and redaction.
