//! Free TCP ports for private services.
//!
//! A port found here is free now, not reserved: between our asking and the service's bind another process may take
//! it. So whoever uses these must notice a clash and come back for others (`services.rs` does). Read next:
//! `services.rs`.

use std::net::TcpListener;

use anyhow::{Context, Result};

/// `N` different free ports: all listeners are held until the last one is bound.
pub(crate) fn free<const N: usize>() -> Result<[u16; N]> {
    let mut listeners = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("cannot find a free port on 127.0.0.1")?;
        *port = listener.local_addr().context("cannot read the port of a listener")?.port();
        listeners.push(listener);
    }
    Ok(ports)
}
