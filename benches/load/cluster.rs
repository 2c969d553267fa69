//! What is measured over real etcd, real PostgreSQL and programs in processes of their own.

pub(crate) mod cpu;
pub(crate) mod ready;
pub(crate) mod relist;
pub(crate) mod served;
