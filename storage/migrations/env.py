"""Alembic's entry: the engine comes from `Database.upgrade`, or an address from the command line."""

from alembic import context
from sqlalchemy import Engine
from sqlmodel import SQLModel

import storage.tables  # noqa: F401  (fills the metadata)
from storage.database import Database


def run() -> None:
    engine: Engine | None = context.config.attributes.get("engine")
    if engine is None:
        engine = Database(context.config.get_main_option("sqlalchemy.url") or "sqlite://").engine
    with engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=SQLModel.metadata,
            render_as_batch=connection.dialect.name == "sqlite",
        )
        with context.begin_transaction():
            if connection.dialect.name == "postgresql":  # two that migrate at once: the second finds it done
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('clearlot migrate'))")
            context.run_migrations()
        connection.commit()


run()
