//! Circuits: open, change, close, find.
//!
//! Invariant: the generation of a key only grows, across closing and opening again, while its tombstone lives.

use entities::circuit::{CircuitPatch, CircuitSpec, CircuitStatus};
use entities::faults::Faults;
use entities::ids::{AuthorityName, CircuitId, CircuitKey, Generation, OwnerId, Port, ServiceName};
use entities::orm::{circuit, circuit_status, resting_host, resting_port, to_column, tombstone};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::rests;
use super::slot::{slot_columns, take_slot};
use super::{Store, StoreError, WriteTransaction, health};
use crate::placement::Place;
use crate::slots::RestRules;
use crate::targets::TargetHealth;

/// An open circuit as the store has it.
#[derive(Debug, Clone)]
pub struct StoredCircuit {
    /// The row.
    pub row: circuit::Model,
    /// Its status.
    pub status: CircuitStatus,
    /// What is known about its targets.
    pub health: TargetHealth,
}

/// What to open.
#[derive(Debug, Clone)]
pub struct NewCircuit {
    /// What was asked for.
    pub spec: CircuitSpec,
    /// Where it goes.
    pub place: Place,
    /// When.
    pub now_ms: i64,
    /// When released slots may be given again.
    pub rests: RestRules,
}

/// How opening ended.
#[derive(Debug)]
pub enum OpenOutcome {
    /// It is stored.
    Opened(StoredCircuit),
    /// The key is open already.
    Exists(StoredCircuit),
    /// No slot for it.
    Refused(SlotRefusal),
}

/// Why there is no slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SlotRefusal {
    /// Another circuit has the port.
    #[error("another circuit has the port")]
    PortTaken,
    /// The port was released a short while ago.
    #[error("the port was released a short while ago and still rests")]
    PortResting,
    /// A worker could not bind the port.
    #[error("a worker could not bind the port")]
    PortBad,
    /// The range is used up.
    #[error("no port of the range is free")]
    NoFreePort,
    /// Another circuit has the name.
    #[error("another circuit has the subdomain")]
    HostTaken,
    /// The name belonged to somebody else a short while ago.
    #[error("the subdomain belonged to somebody else a short while ago and still rests")]
    HostResting,
    /// Name and domain together are no host name.
    #[error("subdomain and domain together are longer than a host name can be")]
    HostTooLong,
}

/// How a change ended.
#[derive(Debug)]
pub enum ChangeOutcome {
    /// It is stored under a new generation.
    Changed(StoredCircuit),
    /// It was like that already.
    Unchanged(StoredCircuit),
    /// The generation is not the one that the caller saw.
    GenerationMismatch(Generation),
    /// The circuit cannot have such rules.
    Invalid(Faults),
    /// There is no such circuit.
    NotFound,
}

/// How moving to another port ended.
#[derive(Debug)]
pub enum MoveOutcome {
    /// It has another port under a new generation.
    Moved(Box<StoredCircuit>),
    /// There is no other port.
    NoFreePort,
    /// It was closed meanwhile.
    NotFound,
}

/// What to close.
#[derive(Debug, Clone)]
pub enum CloseTarget {
    /// One circuit.
    Key(CircuitKey),
    /// All of a session or endpoint.
    Owner(OwnerId),
}

/// A circuit that was just closed.
#[derive(Debug, Clone)]
pub struct Closed {
    /// Which key.
    pub key: CircuitKey,
    /// Whose workers served it.
    pub authority: AuthorityName,
    /// The generation that closed it.
    pub generation: Generation,
}

/// Which circuits to list.
#[derive(Debug, Clone, Default)]
pub struct ListFilter {
    /// Of this session or endpoint.
    pub owner: Option<OwnerId>,
    /// Of this service.
    pub service: Option<ServiceName>,
    /// With this status.
    pub status: Option<CircuitStatus>,
    /// At this authority.
    pub authority: Option<AuthorityName>,
    /// After this key.
    pub after: Option<String>,
    /// At most so many.
    pub limit: u64,
}

// === impl Store ===

impl Store {
    /// Opens a circuit: takes a slot and stores it, in one transaction.
    pub async fn open_circuit(&self, new: &NewCircuit) -> Result<OpenOutcome, StoreError> {
        self.retrying(|| self.try_open(new)).await
    }

    async fn try_open(&self, new: &NewCircuit) -> Result<OpenOutcome, StoreError> {
        let write = self.begin().await?;
        let key = new.spec.key();
        if let Some(existing) = find_by_key(write.connection(), &key).await? {
            return Ok(OpenOutcome::Exists(existing));
        }
        let frontend = match take_slot(&write, new).await? {
            Ok(frontend) => frontend,
            Err(refusal) => return Ok(OpenOutcome::Refused(refusal)),
        };
        let closed = tombstone::Entity::find_by_id(key.as_str()).one(write.connection()).await?;
        let last_generation = closed.as_ref().map_or(0, |row| row.generation);
        if closed.is_some() {
            tombstone::Entity::delete_by_id(key.as_str()).exec(write.connection()).await?;
        }
        let (port, subdomain, host) = slot_columns(&frontend);
        let generation = last_generation.saturating_add(1);
        let row = circuit::Model {
            id: CircuitId::random().0,
            key: key.to_string(),
            owner: new.spec.owner.to_string(),
            service: new.spec.service.to_string(),
            authority: new.place.authority().name.to_string(),
            port,
            subdomain,
            host,
            spec: serde_json::to_value(&new.spec)?,
            generation,
            access_generation: generation,
            published_generation: 0,
            created_at_ms: new.now_ms,
            updated_at_ms: new.now_ms,
        };
        let status = circuit_status::ActiveModel {
            circuit_id: Set(row.id),
            status: Set(CircuitStatus::Pending.as_str().to_owned()),
            changed_at_ms: Set(new.now_ms),
        };
        let inserted = circuit::ActiveModel::from(row.clone()).reset_all();
        circuit::Entity::insert(inserted).exec_without_returning(write.connection()).await?;
        circuit_status::Entity::insert(status).exec_without_returning(write.connection()).await?;
        write.commit().await?;
        Ok(OpenOutcome::Opened(StoredCircuit::from((row, None))))
    }

    /// Gives a circuit another port after a worker could not bind `refused`, which is passed over from then on.
    pub async fn move_port(
        &self,
        new: &NewCircuit,
        id: CircuitId,
        refused: Port,
        code: &str,
    ) -> Result<MoveOutcome, StoreError> {
        self.retrying(|| self.try_move_port(new, id, refused, code)).await
    }

    async fn try_move_port(
        &self,
        new: &NewCircuit,
        id: CircuitId,
        refused: Port,
        code: &str,
    ) -> Result<MoveOutcome, StoreError> {
        let write = self.begin().await?;
        let authority = &new.place.authority().name;
        rests::mark_bad(write.connection(), authority, refused, code, new.now_ms).await?;
        let found = circuit::Entity::find_by_id(id.0).lock_exclusive().one(write.connection()).await?;
        let slot = take_slot(&write, new).await?;
        let (Some(row), Ok(frontend)) = (&found, &slot) else {
            write.commit().await?;
            return Ok(if found.is_none() { MoveOutcome::NotFound } else { MoveOutcome::NoFreePort });
        };
        let (port, subdomain, host) = slot_columns(frontend);
        let moved = circuit::Model {
            port,
            subdomain,
            host,
            generation: row.generation.saturating_add(1),
            updated_at_ms: new.now_ms,
            ..row.clone()
        };
        let is_current = update(&write, &moved).await?;
        write.commit().await?;
        Ok(if is_current {
            MoveOutcome::Moved(Box::new(StoredCircuit::from((moved, None))))
        } else {
            MoveOutcome::NotFound
        })
    }

    /// Changes a circuit, if it still has the generation that the caller saw.
    pub async fn change_circuit(
        &self,
        key: &CircuitKey,
        expected: Option<Generation>,
        patch: &CircuitPatch,
        now_ms: i64,
    ) -> Result<ChangeOutcome, StoreError> {
        let write = self.begin().await?;
        let Some(StoredCircuit { row, status, health }) = lock_by_key(&write, key).await? else {
            return Ok(ChangeOutcome::NotFound);
        };
        let generation = row.generation();
        if expected.is_some_and(|expected| expected != generation) {
            return Ok(ChangeOutcome::GenerationMismatch(generation));
        }
        let spec = row.circuit_spec()?;
        let changed = match patch.clone().applied_to(&spec) {
            Ok(changed) => changed,
            Err(faults) => return Ok(ChangeOutcome::Invalid(faults)),
        };
        if changed == spec && !patch.revokes {
            return Ok(ChangeOutcome::Unchanged(StoredCircuit { row, status, health }));
        }
        let next_generation = to_column(generation.next().0);
        let has_new_access = patch.revokes || changed.access != spec.access;
        let next = circuit::Model {
            spec: serde_json::to_value(&changed)?,
            generation: next_generation,
            access_generation: if has_new_access { next_generation } else { row.access_generation },
            updated_at_ms: now_ms,
            ..row
        };
        if !update(&write, &next).await? {
            return Ok(ChangeOutcome::GenerationMismatch(generation));
        }
        health::forget_targets(&write, next.id, &spec, &changed).await?;
        let health = health::health_of(write.connection(), next.id).await?;
        write.commit().await?;
        Ok(ChangeOutcome::Changed(StoredCircuit { row: next, status, health }))
    }

    /// Closes circuits: their slots start to rest and their keys keep their generation.
    pub async fn close_circuits(&self, target: &CloseTarget, now_ms: i64) -> Result<Vec<Closed>, StoreError> {
        let write = self.begin().await?;
        let query = match target {
            CloseTarget::Key(key) => circuit::Entity::find().filter(circuit::Column::Key.eq(key.as_str())),
            CloseTarget::Owner(owner) => circuit::Entity::find().filter(circuit::Column::Owner.eq(owner.as_str())),
        };
        // Where several write at a time, a change between reading and deleting would leave a tombstone that is no
        // newer than the change.
        let rows = query.lock_exclusive().all(write.connection()).await?;
        let mut closed = Vec::with_capacity(rows.len());
        for row in rows {
            closed.push(close_row(&write, row, now_ms).await?);
        }
        write.commit().await?;
        Ok(closed)
    }

    /// One circuit by its key.
    pub async fn circuit_by_key(&self, key: &CircuitKey) -> Result<Option<StoredCircuit>, StoreError> {
        find_by_key(&self.database, key).await
    }

    /// One circuit by its id.
    pub async fn circuit_by_id(&self, id: CircuitId) -> Result<Option<StoredCircuit>, StoreError> {
        let found =
            circuit::Entity::find_by_id(id.0).find_also_related(circuit_status::Entity).one(&self.database).await?;
        with_health(&self.database, found).await
    }

    /// Circuits in the order of their keys.
    pub async fn list_circuits(&self, filter: &ListFilter) -> Result<Vec<StoredCircuit>, StoreError> {
        let mut query = circuit::Entity::find().find_also_related(circuit_status::Entity);
        if let Some(owner) = &filter.owner {
            query = query.filter(circuit::Column::Owner.eq(owner.as_str()));
        }
        if let Some(service) = &filter.service {
            query = query.filter(circuit::Column::Service.eq(service.as_str()));
        }
        if let Some(authority) = &filter.authority {
            query = query.filter(circuit::Column::Authority.eq(authority.as_str()));
        }
        if let Some(status) = filter.status {
            query = query.filter(circuit_status::Column::Status.eq(status.as_str()));
        }
        if let Some(after) = &filter.after {
            query = query.filter(circuit::Column::Key.gt(after.as_str()));
        }
        let found = query.order_by_asc(circuit::Column::Key).limit(filter.limit).all(&self.database).await?;
        let ids: Vec<_> = found.iter().map(|(row, _)| row.id).collect();
        let mut health = health::load_health(&self.database, &ids).await?;
        let circuit = |(row, status): (circuit::Model, Option<circuit_status::Model>)| {
            let health = health.remove(&row.id).unwrap_or_default();
            StoredCircuit { health, ..StoredCircuit::from((row, status)) }
        };
        Ok(found.into_iter().map(circuit).collect())
    }
}

async fn with_health(
    connection: &impl ConnectionTrait,
    found: Option<(circuit::Model, Option<circuit_status::Model>)>,
) -> Result<Option<StoredCircuit>, StoreError> {
    let Some(circuit) = found.map(StoredCircuit::from) else { return Ok(None) };
    Ok(Some(StoredCircuit { health: health::health_of(connection, circuit.row.id).await?, ..circuit }))
}

async fn find_by_key(connection: &impl ConnectionTrait, key: &CircuitKey) -> Result<Option<StoredCircuit>, StoreError> {
    let found = circuit::Entity::find()
        .find_also_related(circuit_status::Entity)
        .filter(circuit::Column::Key.eq(key.as_str()))
        .one(connection)
        .await?;
    with_health(connection, found).await
}

/// The same, and nobody else changes it before the transaction ends: where several write at a time, each change sees
/// the one before.
async fn lock_by_key(write: &WriteTransaction, key: &CircuitKey) -> Result<Option<StoredCircuit>, StoreError> {
    let query = circuit::Entity::find().filter(circuit::Column::Key.eq(key.as_str()));
    let Some(row) = query.lock_exclusive().one(write.connection()).await? else { return Ok(None) };
    let status = circuit_status::Entity::find_by_id(row.id).one(write.connection()).await?;
    with_health(write.connection(), Some((row, status))).await
}

/// Writes a row if its generation is still the one before; tells whether it was.
async fn update(write: &WriteTransaction, next: &circuit::Model) -> Result<bool, StoreError> {
    let result = circuit::Entity::update_many()
        .set(circuit::ActiveModel {
            port: Set(next.port),
            subdomain: Set(next.subdomain.clone()),
            host: Set(next.host.clone()),
            spec: Set(next.spec.clone()),
            generation: Set(next.generation),
            access_generation: Set(next.access_generation),
            updated_at_ms: Set(next.updated_at_ms),
            ..Default::default()
        })
        .filter(circuit::Column::Id.eq(next.id))
        .filter(circuit::Column::Generation.eq(next.generation - 1))
        .exec(write.connection())
        .await?;
    Ok(result.rows_affected == 1)
}

async fn close_row(write: &WriteTransaction, row: circuit::Model, now_ms: i64) -> Result<Closed, StoreError> {
    let spec = row.circuit_spec()?;
    let generation = row.generation().next();
    circuit::Entity::delete_by_id(row.id).exec(write.connection()).await?;
    let closed = tombstone::ActiveModel {
        key: Set(row.key.clone()),
        authority: Set(row.authority.clone()),
        generation: Set(to_column(generation.0)),
        closed_at_ms: Set(now_ms),
    };
    tombstone::Entity::insert(closed).exec_without_returning(write.connection()).await?;
    if let Some(port) = row.port {
        let resting = resting_port::ActiveModel {
            authority: Set(row.authority.clone()),
            port: Set(port),
            key: Set(row.key.clone()),
            generation: Set(to_column(generation.0)),
            is_confirmed: Set(false),
            released_at_ms: Set(now_ms),
        };
        let replace = OnConflict::columns([resting_port::Column::Authority, resting_port::Column::Port])
            .update_columns([
                resting_port::Column::Key,
                resting_port::Column::Generation,
                resting_port::Column::IsConfirmed,
                resting_port::Column::ReleasedAtMs,
            ])
            .to_owned();
        resting_port::Entity::insert(resting).on_conflict(replace).exec_without_returning(write.connection()).await?;
    }
    if let Some(host) = &row.host {
        let resting = resting_host::ActiveModel {
            host: Set(host.clone()),
            tenant: Set(spec.tenant().to_string()),
            released_at_ms: Set(now_ms),
        };
        let replace = OnConflict::column(resting_host::Column::Host)
            .update_columns([resting_host::Column::Tenant, resting_host::Column::ReleasedAtMs])
            .to_owned();
        resting_host::Entity::insert(resting).on_conflict(replace).exec_without_returning(write.connection()).await?;
    }
    let versioned_key = row.key.parse().map_err(|_| unreadable(&row, "key"))?;
    let authority = row.authority.parse().map_err(|_| unreadable(&row, "authority"))?;
    Ok(Closed { key: versioned_key, authority, generation })
}

fn unreadable(row: &circuit::Model, column: &str) -> StoreError {
    let reason = format!("column {column} does not parse");
    StoreError::Row(entities::orm::RowError { table: "circuits", row: row.key.clone(), reason })
}

// === impl StoredCircuit ===

impl From<(circuit::Model, Option<circuit_status::Model>)> for StoredCircuit {
    fn from((row, status): (circuit::Model, Option<circuit_status::Model>)) -> Self {
        let status = status.map_or(CircuitStatus::Pending, |status| status.circuit_status());
        Self { row, status, health: TargetHealth::default() }
    }
}
