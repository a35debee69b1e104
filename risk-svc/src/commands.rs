//! What happens at risk-svc: a step is screened, a review ends. One batch is one function and one transaction.
//!
//! Screening has no effect to take back, so there is no compensation: the review of an order that was cancelled
//! meanwhile stays until somebody decides it or it expires, and the late answer harms nobody. Read next: [`screen`],
//! [`review`].

pub(crate) mod review;
pub(crate) mod screen;
