//! payment-svc over a real Postgres, judged by the simulator's book.

#[cfg(test)]
mod compensation;
#[cfg(test)]
mod doors;
#[cfg(test)]
mod prepare;
#[cfg(test)]
mod recovery;
#[cfg(test)]
mod slices;
#[cfg(test)]
#[cfg(test)]
mod tokens;
#[cfg(test)]
mod world;
