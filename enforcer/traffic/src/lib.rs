//! Pure traffic decisions: routes, balancers, timeouts as functions of state, input and now.
