//! What comes first when not everything can (OV-02, EL-02).

/// The class of a route.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Before the others.
    High,
    /// Neither.
    #[default]
    Normal,
    /// After the others, and refused first.
    Low,
}

impl Priority {
    /// Its place in a queue: 0 is the first.
    #[must_use]
    pub fn class(self) -> u8 {
        match self {
            Self::High => 0,
            Self::Normal => 1,
            Self::Low => 2,
        }
    }
}
