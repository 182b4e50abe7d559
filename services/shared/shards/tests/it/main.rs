//! The leases of processes: the driver over a store and a bus.

mod leases;
