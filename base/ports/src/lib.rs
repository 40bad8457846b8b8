//! Clock, randomness, disk, network and supervised tasks as parameters.
