//! A watched directory of policies becomes numbered, checked snapshots.
