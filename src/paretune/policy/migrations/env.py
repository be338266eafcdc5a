"""Run by Alembic with the connection of `policy.database`, inside its transaction. An edge: the database."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
