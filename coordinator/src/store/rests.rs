//! Slots that are taken, rest, or would not bind.
//!
//! Invariant: open circuits are read before resting slots. A circuit that closes between the two reads is then seen
//! in one of them; the other order would miss it.

use std::collections::{BTreeMap, HashMap, HashSet};

use entities::host::HostName;
use entities::ids::{AuthorityName, CircuitKey, Generation, Port};
use entities::orm::{bad_port, circuit, from_column, resting_host, resting_port};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::{Store, StoreError};
use crate::slots::{Release, RestRules};

/// How a port is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PortState {
    /// May be given.
    Free,
    /// A circuit has it.
    Taken,
    /// Released a short while ago.
    Resting,
    /// A worker could not bind it.
    Bad,
}

/// How a host name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HostState {
    /// May be given.
    Free,
    /// A circuit has it.
    Taken,
    /// Belonged to somebody else a short while ago.
    Resting,
}

/// A released port that some worker may still serve.
#[derive(Debug, Clone)]
pub struct UnconfirmedPort {
    /// Of which authority.
    pub authority: AuthorityName,
    /// Which port.
    pub port: i32,
    /// Which circuit had it.
    pub key: CircuitKey,
    /// The generation that released it.
    pub generation: Generation,
}

/// How many slots of an authority are in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SlotCounts {
    /// Ports that circuits have.
    pub ports_used: u64,
    /// Ports that rest or would not bind.
    pub ports_resting: u64,
    /// Subdomains that circuits have.
    pub subdomains_used: u64,
}

/// The state of each of a few ports.
pub(super) async fn port_states(
    connection: &impl ConnectionTrait,
    authority: &AuthorityName,
    ports: &[Port],
    rules: &RestRules,
    now_ms: i64,
) -> Result<Vec<(Port, PortState)>, StoreError> {
    let numbers: Vec<i32> = ports.iter().map(|port| i32::from(port.number())).collect();
    let blocked = blocked(connection, authority, Some(&numbers), rules, now_ms).await?;
    let state = |port: &Port| blocked.get(&i32::from(port.number())).copied().unwrap_or(PortState::Free);
    Ok(ports.iter().map(|port| (*port, state(port))).collect())
}

/// Every port of an authority that may not be given.
pub(super) async fn blocked_ports(
    connection: &impl ConnectionTrait,
    authority: &AuthorityName,
    rules: &RestRules,
    now_ms: i64,
) -> Result<HashSet<Port>, StoreError> {
    let blocked = blocked(connection, authority, None, rules, now_ms).await?;
    Ok(blocked.into_keys().filter_map(|number| Port::try_from(u16::try_from(number).ok()?).ok()).collect())
}

async fn blocked(
    connection: &impl ConnectionTrait,
    authority: &AuthorityName,
    only: Option<&[i32]>,
    rules: &RestRules,
    now_ms: i64,
) -> Result<HashMap<i32, PortState>, StoreError> {
    let mut taken = circuit::Entity::find()
        .select_only()
        .column(circuit::Column::Port)
        .filter(circuit::Column::Authority.eq(authority.as_str()))
        .filter(circuit::Column::Port.is_not_null());
    let mut resting = resting_port::Entity::find().filter(resting_port::Column::Authority.eq(authority.as_str()));
    let mut bad = bad_port::Entity::find().filter(bad_port::Column::Authority.eq(authority.as_str()));
    if let Some(numbers) = only {
        taken = taken.filter(circuit::Column::Port.is_in(numbers.iter().copied()));
        resting = resting.filter(resting_port::Column::Port.is_in(numbers.iter().copied()));
        bad = bad.filter(bad_port::Column::Port.is_in(numbers.iter().copied()));
    }
    let taken: Vec<i32> = taken.into_tuple().all(connection).await?;
    let mut blocked: HashMap<i32, PortState> = HashMap::new();
    for row in bad.all(connection).await? {
        if rules.bad_port_rests(row.reported_at_ms, now_ms) {
            blocked.insert(row.port, PortState::Bad);
        }
    }
    for row in resting.all(connection).await? {
        let release = Release { released_at_ms: row.released_at_ms, is_confirmed: row.is_confirmed };
        if rules.port_rests(release, now_ms) {
            blocked.insert(row.port, PortState::Resting);
        }
    }
    blocked.extend(taken.into_iter().map(|port| (port, PortState::Taken)));
    Ok(blocked)
}

/// The state of a host name for `tenant`.
pub(super) async fn host_state(
    connection: &impl ConnectionTrait,
    host: &HostName,
    tenant: &str,
    rules: &RestRules,
    now_ms: i64,
) -> Result<HostState, StoreError> {
    let taken = circuit::Entity::find().filter(circuit::Column::Host.eq(host.as_str())).one(connection).await?;
    if taken.is_some() {
        return Ok(HostState::Taken);
    }
    let resting = resting_host::Entity::find_by_id(host.as_str()).one(connection).await?;
    let is_kept = resting.is_some_and(|row| row.tenant != tenant && rules.host_rests(row.released_at_ms, now_ms));
    Ok(if is_kept { HostState::Resting } else { HostState::Free })
}

/// Notes that a worker could not bind a port.
pub(super) async fn mark_bad(
    connection: &impl ConnectionTrait,
    authority: &AuthorityName,
    port: Port,
    code: &str,
    now_ms: i64,
) -> Result<(), StoreError> {
    let row = bad_port::ActiveModel {
        authority: Set(authority.to_string()),
        port: Set(i32::from(port.number())),
        code: Set(code.to_owned()),
        reported_at_ms: Set(now_ms),
    };
    let replace = OnConflict::columns([bad_port::Column::Authority, bad_port::Column::Port])
        .update_columns([bad_port::Column::Code, bad_port::Column::ReportedAtMs])
        .to_owned();
    bad_port::Entity::insert(row).on_conflict(replace).exec_without_returning(connection).await?;
    Ok(())
}

// === impl Store ===

impl Store {
    /// Released ports that are not known to be let go by every worker, by authority and port, behind `after`.
    pub async fn unconfirmed_ports(
        &self,
        after: Option<&UnconfirmedPort>,
        limit: u64,
    ) -> Result<Vec<UnconfirmedPort>, StoreError> {
        let mut query = resting_port::Entity::find().filter(resting_port::Column::IsConfirmed.eq(false));
        if let Some(after) = after {
            let authority = after.authority.as_str();
            let later_port =
                resting_port::Column::Authority.eq(authority).and(resting_port::Column::Port.gt(after.port));
            query = query.filter(resting_port::Column::Authority.gt(authority).or(later_port));
        }
        let rows = query
            .order_by_asc(resting_port::Column::Authority)
            .order_by_asc(resting_port::Column::Port)
            .limit(limit)
            .all(&self.database)
            .await?;
        let read = |row: resting_port::Model| {
            Some(UnconfirmedPort {
                authority: row.authority.parse().ok()?,
                port: row.port,
                key: row.key.parse().ok()?,
                generation: Generation(from_column(row.generation)),
            })
        };
        Ok(rows.into_iter().filter_map(read).collect())
    }

    /// Notes that every worker has let go of the ports that these keys released.
    pub async fn confirm_ports(&self, keys: &[(CircuitKey, Generation)]) -> Result<(), StoreError> {
        for chunk in keys.chunks(200) {
            let mut any = Condition::any();
            for (key, generation) in chunk {
                any = any.add(
                    resting_port::Column::Key
                        .eq(key.as_str())
                        .and(resting_port::Column::Generation.lte(entities::orm::to_column(generation.0))),
                );
            }
            resting_port::Entity::update_many()
                .col_expr(resting_port::Column::IsConfirmed, Expr::value(true))
                .filter(any)
                .filter(resting_port::Column::IsConfirmed.eq(false))
                .exec(&self.database)
                .await?;
        }
        Ok(())
    }

    /// Forgets slots whose rest is over.
    pub async fn forget_rested(&self, rules: &RestRules, now_ms: i64) -> Result<(), StoreError> {
        resting_port::Entity::delete_many()
            .filter(
                resting_port::Column::ReleasedAtMs
                    .lt(now_ms - rules.port_ms)
                    .and(resting_port::Column::IsConfirmed.eq(true))
                    .or(resting_port::Column::ReleasedAtMs.lt(now_ms - rules.unconfirmed_port_ms)),
            )
            .exec(&self.database)
            .await?;
        resting_host::Entity::delete_many()
            .filter(resting_host::Column::ReleasedAtMs.lt(now_ms - rules.host_ms))
            .exec(&self.database)
            .await?;
        bad_port::Entity::delete_many()
            .filter(bad_port::Column::ReportedAtMs.lt(now_ms - rules.bad_port_ms))
            .exec(&self.database)
            .await?;
        Ok(())
    }

    /// Slots in use, by authority.
    pub async fn slot_counts(
        &self,
        rules: &RestRules,
        now_ms: i64,
    ) -> Result<BTreeMap<String, SlotCounts>, StoreError> {
        let mut counts: BTreeMap<String, SlotCounts> = BTreeMap::new();
        let open: Vec<(String, i64, i64)> = circuit::Entity::find()
            .select_only()
            .column(circuit::Column::Authority)
            .column_as(circuit::Column::Port.count(), "ports")
            .column_as(circuit::Column::Host.count(), "hosts")
            .group_by(circuit::Column::Authority)
            .into_tuple()
            .all(&self.database)
            .await?;
        for (authority, ports, hosts) in open {
            let entry = counts.entry(authority).or_default();
            entry.ports_used = from_column(ports);
            entry.subdomains_used = from_column(hosts);
        }
        for row in resting_port::Entity::find().all(&self.database).await? {
            let release = Release { released_at_ms: row.released_at_ms, is_confirmed: row.is_confirmed };
            if rules.port_rests(release, now_ms) {
                counts.entry(row.authority).or_default().ports_resting += 1;
            }
        }
        for row in bad_port::Entity::find().all(&self.database).await? {
            if rules.bad_port_rests(row.reported_at_ms, now_ms) {
                counts.entry(row.authority).or_default().ports_resting += 1;
            }
        }
        Ok(counts)
    }
}
