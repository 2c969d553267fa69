//! The first tables: circuits, workers, authorities, and the slots that rest.
//!
//! Invariant: `(authority, port)` and `host` are unique among open circuits, so no race can give a slot away twice.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, boolean, integer, integer_null, json, string, string_null, uuid};

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const TABLES: [&str; 9] = [
    "circuit_status",
    "circuits",
    "tombstones",
    "resting_ports",
    "resting_hosts",
    "bad_ports",
    "workers",
    "authorities",
    "installation",
];

#[expect(elided_lifetimes_in_paths, reason = "the trait's lifetimes cannot be named in the implementation")]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [
            installation(),
            authorities(),
            workers(),
            circuits(),
            circuit_status(),
            tombstones(),
            resting_ports(),
            resting_hosts(),
            bad_ports(),
        ] {
            manager.create_table(table).await?;
        }
        for index in indexes() {
            manager.create_index(index).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in TABLES {
            manager.drop_table(Table::drop().table(Alias::new(table)).to_owned()).await?;
        }
        Ok(())
    }
}

/// A table; the name stands in [`TABLES`] too, so that `down` takes it back.
fn table(name: &'static str) -> TableCreateStatement {
    Table::create().table(Alias::new(name)).to_owned()
}

fn installation() -> TableCreateStatement {
    table("installation")
        .col(integer("id").primary_key())
        .col(uuid("installation_id"))
        .col(big_integer("leader_epoch"))
        .col(big_integer("created_at_ms"))
        .to_owned()
}

fn authorities() -> TableCreateStatement {
    table("authorities")
        .col(string("name").primary_key())
        .col(json("settings"))
        .col(big_integer("updated_at_ms"))
        .to_owned()
}

fn workers() -> TableCreateStatement {
    table("workers")
        .col(string("id").primary_key())
        .col(string("authority"))
        .col(uuid("boot_id"))
        .col(string("version"))
        .col(string("api_url"))
        .col(integer("weight"))
        .col(string("status"))
        .col(big_integer("circuits"))
        .col(big_integer("connections"))
        .col(big_integer("registered_at_ms"))
        .col(big_integer("seen_at_ms"))
        .to_owned()
}

fn circuits() -> TableCreateStatement {
    table("circuits")
        .col(uuid("id").primary_key())
        .col(string("key"))
        .col(string("owner"))
        .col(string("service"))
        .col(string("authority"))
        .col(integer_null("port"))
        .col(string_null("subdomain"))
        .col(string_null("host"))
        .col(json("spec"))
        .col(big_integer("generation"))
        .col(big_integer("published_generation"))
        .col(big_integer("created_at_ms"))
        .col(big_integer("updated_at_ms"))
        .to_owned()
}

fn circuit_status() -> TableCreateStatement {
    table("circuit_status")
        .col(uuid("circuit_id").primary_key())
        .col(string("status"))
        .col(big_integer("changed_at_ms"))
        .foreign_key(
            ForeignKey::create()
                .name("fk_circuit_status_circuit")
                .from(Alias::new("circuit_status"), Alias::new("circuit_id"))
                .to(Alias::new("circuits"), Alias::new("id"))
                .on_delete(ForeignKeyAction::Cascade),
        )
        .to_owned()
}

fn tombstones() -> TableCreateStatement {
    table("tombstones")
        .col(string("key").primary_key())
        .col(string("authority"))
        .col(big_integer("generation"))
        .col(big_integer("closed_at_ms"))
        .to_owned()
}

fn resting_ports() -> TableCreateStatement {
    table("resting_ports")
        .col(string("authority"))
        .col(integer("port"))
        .col(string("key"))
        .col(big_integer("generation"))
        .col(boolean("is_confirmed"))
        .col(big_integer("released_at_ms"))
        .primary_key(Index::create().col(Alias::new("authority")).col(Alias::new("port")))
        .to_owned()
}

fn resting_hosts() -> TableCreateStatement {
    table("resting_hosts")
        .col(string("host").primary_key())
        .col(string("tenant"))
        .col(big_integer("released_at_ms"))
        .to_owned()
}

fn bad_ports() -> TableCreateStatement {
    table("bad_ports")
        .col(string("authority"))
        .col(integer("port"))
        .col(string("code"))
        .col(big_integer("reported_at_ms"))
        .primary_key(Index::create().col(Alias::new("authority")).col(Alias::new("port")))
        .to_owned()
}

fn indexes() -> Vec<IndexCreateStatement> {
    let index = |name: &str, table: &'static str, columns: &[&'static str]| {
        let mut statement = Index::create();
        statement.name(name).table(Alias::new(table));
        for column in columns {
            statement.col(Alias::new(*column));
        }
        statement
    };
    vec![
        index("uq_circuits_key", "circuits", &["key"]).unique().to_owned(),
        index("uq_circuits_authority_port", "circuits", &["authority", "port"]).unique().to_owned(),
        index("uq_circuits_host", "circuits", &["host"]).unique().to_owned(),
        index("ix_circuits_owner", "circuits", &["owner"]),
        index("ix_circuits_service", "circuits", &["service"]),
        index("ix_circuit_status_status", "circuit_status", &["status"]),
        index("ix_tombstones_closed_at", "tombstones", &["closed_at_ms"]),
        index("ix_resting_ports_released_at", "resting_ports", &["released_at_ms"]),
        index("ix_resting_hosts_released_at", "resting_hosts", &["released_at_ms"]),
    ]
}
