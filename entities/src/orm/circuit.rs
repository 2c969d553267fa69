//! Table `circuits`: what is open.

use sea_orm::entity::prelude::*;

use super::{RowError, from_column};
use crate::circuit::{Circuit, CircuitSpec, Versioned};
use crate::frontend::Frontend;
use crate::ids::{CircuitId, Generation, Port};

/// One open circuit.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "circuits")]
pub struct Model {
    /// This life of the circuit.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// Its unique name.
    pub key: String,
    /// Session or endpoint.
    pub owner: String,
    /// Which service.
    pub service: String,
    /// Whose workers serve it.
    pub authority: String,
    /// Its slot, if that is a port.
    pub port: Option<i32>,
    /// Its label, if the slot is a subdomain.
    pub subdomain: Option<String>,
    /// Its slot, if that is a subdomain.
    pub host: Option<String>,
    /// A [`CircuitSpec`] as JSON.
    pub spec: Json,
    /// How often the key has changed.
    pub generation: i64,
    /// The generation that wrote the access rules.
    pub access_generation: i64,
    /// The generation that the registry is known to have.
    pub published_generation: i64,
    /// When it was opened.
    pub created_at_ms: i64,
    /// When it changed last.
    pub updated_at_ms: i64,
}

/// A circuit has one status.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    /// How it is.
    #[sea_orm(has_one = "super::circuit_status::Entity")]
    Status,
}

impl Related<super::circuit_status::Entity> for Entity {
    fn to() -> RelationDef {
        Relation::Status.def()
    }
}

impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// What the caller asked for.
    pub fn circuit_spec(&self) -> Result<CircuitSpec, RowError> {
        serde_json::from_value(self.spec.clone()).map_err(|error| self.unreadable(error))
    }

    /// The slot that it has.
    pub fn frontend(&self) -> Result<Frontend, RowError> {
        match (self.port, &self.subdomain, &self.host) {
            (Some(number), _, _) => {
                let number = u16::try_from(number).map_err(|error| self.unreadable(error))?;
                Ok(Frontend::Port { port: Port::try_from(number).map_err(|error| self.unreadable(error))? })
            }
            (None, Some(subdomain), Some(host)) => Ok(Frontend::Subdomain {
                subdomain: subdomain.parse().map_err(|error| self.unreadable(error))?,
                host: host.parse().map_err(|error| self.unreadable(error))?,
            }),
            _ => Err(self.unreadable("neither port nor host")),
        }
    }

    /// How often the key has changed.
    pub fn generation(&self) -> Generation {
        Generation(from_column(self.generation))
    }

    /// What edges get.
    pub fn versioned(&self) -> Result<Versioned, RowError> {
        let spec = self.circuit_spec()?;
        let circuit = Circuit {
            id: CircuitId(self.id),
            key: self.key.parse().map_err(|error| self.unreadable(error))?,
            authority: self.authority.parse().map_err(|error| self.unreadable(error))?,
            frontend: self.frontend()?,
            protocol: spec.protocol,
            backend: spec.backend,
            targets: spec.targets,
            load_balancing: spec.load_balancing,
            access: spec.access,
            access_generation: Generation(from_column(self.access_generation)),
            traffic: spec.traffic,
        };
        Ok(Versioned { generation: self.generation(), circuit })
    }

    fn unreadable(&self, reason: impl std::fmt::Display) -> RowError {
        RowError::new("circuits", &self.key, reason)
    }
}
