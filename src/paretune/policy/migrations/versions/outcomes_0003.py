"""What tests with users saw of what was promised, only ever added to. An edge: the database."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table of outcomes, and what refuses to change it."""
    op.create_table(
        "outcomes",
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("version", sa.Integer, sa.ForeignKey("plans.version"), nullable=False),
        sa.Column("number", sa.Integer, sa.ForeignKey("policies.number"), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("objective", sa.String(200), nullable=False),
        sa.Column("minimised", sa.Boolean, nullable=False),
        sa.Column("predicted", sa.Float, nullable=False),
        sa.Column("predicted_error", sa.Float),
        sa.Column("predicted_low", sa.Float),
        sa.Column("predicted_high", sa.Float),
        sa.Column("seen", sa.Float, nullable=False),
        sa.Column("seen_error", sa.Float),
        sa.Column("seen_low", sa.Float),
        sa.Column("seen_high", sa.Float),
        sa.Column("users", sa.BigInteger, nullable=False),
        sa.Column("days", sa.Integer, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("readout", sa.String(64), nullable=False),
        sa.UniqueConstraint("number", "objective", "readout", name="one_outcome_per_readout"),
    )
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER outcomes_no_{verb.lower()} BEFORE {verb} ON outcomes "
                "BEGIN SELECT RAISE(ABORT, 'outcomes is only added to'); END"
            )
    else:
        op.execute("CREATE TRIGGER outcomes_fixed BEFORE UPDATE OR DELETE ON outcomes FOR EACH ROW EXECUTE FUNCTION only_added_to()")
        op.execute("CREATE TRIGGER outcomes_kept BEFORE TRUNCATE ON outcomes FOR EACH STATEMENT EXECUTE FUNCTION only_added_to()")


def downgrade() -> None:
    """Refuse: what has been audited is not dropped.

    Raises:
        RuntimeError: always.
    """
    raise RuntimeError("outcomes are spoken of in the audit trail, and are not dropped")
