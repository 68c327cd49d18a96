"""Bank lines that take another one back, and portfolios whose members are still being written.

Revision: 0004, after 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("statementline", sa.Column("is_reversal", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("statementline", sa.Column("takes_back_id", BIG, nullable=True))
    op.add_column("portfolio", sa.Column("is_shown", sa.Boolean(), nullable=False, server_default=sa.true()))


def downgrade() -> None:
    with op.batch_alter_table("portfolio", schema=None) as batch_op:
        batch_op.drop_column("is_shown")
    with op.batch_alter_table("statementline", schema=None) as batch_op:
        batch_op.drop_column("takes_back_id")
        batch_op.drop_column("is_reversal")
