"""How the registry's database came to be what it is. An edge: Alembic, the database."""
