//! What workers say about targets.
//!
//! Invariant: the status of a circuit follows in the transaction that writes what it follows from, but for circuits that
//! nobody serves yet.

use std::collections::HashMap;

use entities::circuit::CircuitStatus;
use entities::ids::{AuthorityName, WorkerId};
use entities::orm::{circuit, circuit_status, target_health, worker};
use entities::target::Target;
use entities::worker::{TargetReport, WorkerStatus};
use sea_orm::ActiveValue::Set;
use sea_orm::prelude::Uuid;
use sea_orm::sea_query::{Condition, Expr, OnConflict, Query};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::{Store, StoreError, WriteTransaction};
use crate::targets::TargetHealth;

// === impl Store ===

impl Store {
    /// Notes what a worker says about targets of its authority's circuits; those of others and those that are closed by now
    /// are passed over.
    pub async fn record_targets(
        &self,
        id: &WorkerId,
        authority: &AuthorityName,
        reports: &[TargetReport],
        now_ms: i64,
    ) -> Result<(), StoreError> {
        self.retrying(|| self.try_record_targets(id, authority, reports, now_ms)).await
    }

    async fn try_record_targets(
        &self,
        id: &WorkerId,
        authority: &AuthorityName,
        reports: &[TargetReport],
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let write = self.begin().await?;
        let mut ids: Vec<Uuid> = reports.iter().map(|report| report.circuit_id.0).collect();
        ids.sort_unstable();
        ids.dedup();
        // Locked in one order, so that two workers with news about the same circuits wait for each other.
        let rows = circuit::Entity::find()
            .filter(circuit::Column::Id.is_in(ids))
            .filter(circuit::Column::Authority.eq(authority.as_str()))
            .order_by_asc(circuit::Column::Id)
            .lock_exclusive()
            .all(write.connection())
            .await?;
        let mut circuits = HashMap::with_capacity(rows.len());
        for row in rows {
            circuits.insert(row.id, row.circuit_spec()?.targets);
        }
        let current = |report: &&TargetReport| {
            let is_it = |target: &Target| target.port == report.port && target.host == report.host;
            circuits.get(&report.circuit_id.0).is_some_and(|targets| targets.iter().any(is_it))
        };
        for report in reports.iter().filter(current) {
            write_report(&write, id, report, now_ms).await?;
        }
        let ids: Vec<Uuid> = circuits.keys().copied().collect();
        let health = load_health(write.connection(), &ids).await?;
        for status in [CircuitStatus::Healthy, CircuitStatus::Unhealthy] {
            let has = |(id, targets): &(&Uuid, &Vec<Target>)| {
                health.get(*id).cloned().unwrap_or_default().served_status(targets) == status
            };
            let ids: Vec<Uuid> = circuits.iter().filter(has).map(|(id, _)| *id).collect();
            circuit_status::Entity::update_many()
                .col_expr(circuit_status::Column::Status, Expr::value(status.as_str()))
                .col_expr(circuit_status::Column::ChangedAtMs, Expr::value(now_ms))
                .filter(circuit_status::Column::CircuitId.is_in(ids))
                .filter(circuit_status::Column::Status.is_not_in([status.as_str(), CircuitStatus::Pending.as_str()]))
                .exec(write.connection())
                .await?;
        }
        write.commit().await
    }
}

async fn write_report(
    write: &WriteTransaction,
    id: &WorkerId,
    report: &TargetReport,
    now_ms: i64,
) -> Result<(), StoreError> {
    let (circuit_id, worker_id) = (report.circuit_id.0, id.to_string());
    let (host, port) = (report.host.as_str().to_owned(), i32::from(report.port.number()));
    let Some(is_healthy) = report.healthy else {
        let key = (circuit_id, worker_id, host, port);
        target_health::Entity::delete_by_id(key).exec(write.connection()).await?;
        return Ok(());
    };
    let row = target_health::ActiveModel {
        circuit_id: Set(circuit_id),
        worker_id: Set(worker_id),
        host: Set(host),
        port: Set(port),
        is_healthy: Set(is_healthy),
        changed_at_ms: Set(now_ms),
    };
    let replace = OnConflict::columns([
        target_health::Column::CircuitId,
        target_health::Column::WorkerId,
        target_health::Column::Host,
        target_health::Column::Port,
    ])
    .update_columns([target_health::Column::IsHealthy, target_health::Column::ChangedAtMs])
    .to_owned();
    target_health::Entity::insert(row).on_conflict(replace).exec_without_returning(write.connection()).await?;
    Ok(())
}

/// What live workers say about the targets of these circuits.
pub(super) async fn load_health(
    connection: &impl ConnectionTrait,
    circuits: &[Uuid],
) -> Result<HashMap<Uuid, TargetHealth>, StoreError> {
    let mut health: HashMap<Uuid, TargetHealth> = HashMap::new();
    if circuits.is_empty() {
        return Ok(health);
    }
    let live = Query::select()
        .column(worker::Column::Id)
        .from(worker::Entity)
        .and_where(worker::Column::Status.ne(WorkerStatus::Lost.as_str()))
        .to_owned();
    let rows = target_health::Entity::find()
        .filter(target_health::Column::CircuitId.is_in(circuits.iter().copied()))
        .filter(target_health::Column::WorkerId.in_subquery(live))
        .all(connection)
        .await?;
    for row in rows {
        let Ok(port) = u16::try_from(row.port) else { continue };
        health.entry(row.circuit_id).or_default().note(row.host, port, row.is_healthy);
    }
    Ok(health)
}

/// What live workers say about the targets of one circuit.
pub(super) async fn health_of(connection: &impl ConnectionTrait, id: Uuid) -> Result<TargetHealth, StoreError> {
    Ok(load_health(connection, &[id]).await?.remove(&id).unwrap_or_default())
}

/// Forgets what a worker has said.
pub(super) async fn forget_worker(connection: &impl ConnectionTrait, id: &WorkerId) -> Result<(), StoreError> {
    let query = target_health::Entity::delete_many().filter(target_health::Column::WorkerId.eq(id.as_str()));
    query.exec(connection).await?;
    Ok(())
}

/// Forgets what was said about targets that a circuit does not have any more, or, if it is checked in another way from now
/// on, about all of them.
pub(super) async fn forget_targets(
    write: &WriteTransaction,
    circuit: Uuid,
    before: &entities::circuit::CircuitSpec,
    after: &entities::circuit::CircuitSpec,
) -> Result<(), StoreError> {
    let has_same_check = before.traffic.health_check == after.traffic.health_check;
    let stays = |old: &&Target| after.targets.iter().any(|new| new.port == old.port && new.host == old.host);
    let mut gone = Condition::any();
    for target in before.targets.iter().filter(|old| !has_same_check || !stays(old)) {
        let is_it = Condition::all()
            .add(target_health::Column::Host.eq(target.host.as_str()))
            .add(target_health::Column::Port.eq(i32::from(target.port.number())));
        gone = gone.add(is_it);
    }
    if gone.is_empty() {
        return Ok(());
    }
    target_health::Entity::delete_many()
        .filter(target_health::Column::CircuitId.eq(circuit))
        .filter(gone)
        .exec(write.connection())
        .await?;
    Ok(())
}
