"""Runs the migrations in the transaction that ``web.store.schema`` has open. Alembic loads this file by its place."""

from alembic import context

from polydetr.web.store.schema import VERSION_TABLE
from polydetr.web.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, version_table=VERSION_TABLE
)
with context.begin_transaction():
    context.run_migrations()
