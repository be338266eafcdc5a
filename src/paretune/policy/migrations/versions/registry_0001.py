"""The registry's first tables, and triggers that refuse to change what is only added to. An edge: the database."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

APPENDED = ("bundles", "bundle_files", "fronts", "evidence", "plans", "activations", "audit")


def upgrade() -> None:
    """Make all tables of the first version."""
    _content_tables()
    _state_tables()
    op.execute(sa.text("INSERT INTO in_force (id, version) VALUES (1, 0)"))
    op.execute(sa.text("INSERT INTO rules (id, self_approval, evidence_days) VALUES (1, FALSE, 30)"))
    if op.get_bind().dialect.name == "sqlite":
        _sqlite_triggers()
    else:
        _postgresql_triggers()


def downgrade() -> None:
    """Refuse: what has been audited is not dropped.

    Raises:
        RuntimeError: always.
    """
    raise RuntimeError("the registry's first version has nothing before it")


def _content_tables() -> None:
    op.create_table(
        "bundles",
        sa.Column("fingerprint", sa.String(64), primary_key=True),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
    )
    op.create_table(
        "bundle_files",
        sa.Column("fingerprint", sa.String(64), sa.ForeignKey("bundles.fingerprint"), primary_key=True),
        sa.Column("name", sa.String(200), primary_key=True),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "fronts",
        sa.Column("fingerprint", sa.String(64), primary_key=True),
        sa.Column("document", sa.LargeBinary, nullable=False),
        sa.Column("report", sa.LargeBinary),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
    )
    op.create_table(
        "policies",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("approved", sa.String(64), nullable=False),
        sa.Column("approved_by", sa.Text, nullable=False),
        sa.Column("approved_us", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "evidence",
        sa.Column("number", sa.Integer, sa.ForeignKey("policies.number"), primary_key=True),
        sa.Column("revision", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
        sa.Column("bundle", sa.String(64), sa.ForeignKey("bundles.fingerprint")),
        sa.Column("front", sa.String(64), sa.ForeignKey("fronts.fingerprint")),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
    )
    op.create_table(
        "plans",
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
    )


def _state_tables() -> None:
    op.create_table(
        "activations",
        sa.Column("version", sa.Integer, sa.ForeignKey("plans.version"), primary_key=True),
        sa.Column("previous", sa.Integer, nullable=False),
        sa.Column("content_of", sa.Integer, nullable=False),
        sa.Column("operation", sa.String(32), nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("idempotency_key", sa.String(200)),
        sa.Column("request", sa.String(64), nullable=False),
        sa.UniqueConstraint("idempotency_key", name="one_activation_per_key"),
    )
    op.create_table(
        "in_force",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("version", sa.Integer, nullable=False),
    )
    op.create_table(
        "rules",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("self_approval", sa.Boolean, nullable=False),
        sa.Column("evidence_days", sa.Float, nullable=False),
    )
    op.create_table(
        "audit",
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("what", sa.String(32), nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("evidence", sa.String(64), nullable=False),
        sa.Column("previous", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )


def _sqlite_triggers() -> None:
    for table in APPENDED:
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is only added to'); END"
            )


def _postgresql_triggers() -> None:
    op.execute(
        "CREATE FUNCTION only_added_to() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION '% is only added to', TG_TABLE_NAME; END $$"
    )
    for table in APPENDED:
        op.execute(f"CREATE TRIGGER {table}_fixed BEFORE UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION only_added_to()")
        op.execute(f"CREATE TRIGGER {table}_kept BEFORE TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION only_added_to()")
