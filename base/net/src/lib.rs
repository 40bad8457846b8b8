//! Accept loops with deadlines, caps and drain.
