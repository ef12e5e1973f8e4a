"""The audits' SQL as Spark reads it: what sqlglot translates, and the few things that it does not.

sqlglot is imported when it is needed: it comes with the extra ``spark``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Part:
    """A SELECT of its own, out of one that has several behind WITH.

    Attributes:
        name: The parts after it find it under this name; empty for the last, which is the statement itself.
        sql: In Spark's SQL.
        shared: Read more than once. Spark would make it as often anew, and those that it reads in turn.
    """

    name: str
    sql: str
    shared: bool


def to_spark(sql: str) -> str:
    """Return one statement of DuckDB's SQL in Spark's.

    Differs on purpose in one thing: sums are not sorted first, so that they agree to rounding alone.
    """
    return str(_translated(sql).sql(dialect="spark"))


def parts(sql: str, prefix: str) -> list[Part]:
    """Return a statement of DuckDB's SQL as statements of Spark's that are run one after the other.

    Args:
        sql: One SELECT.
        prefix: Begins the names of what stood behind WITH; each may hide a view of the same name.
    """
    from sqlglot import exp

    tree = _translated(sql)
    behind = list(tree.ctes)
    if behind:
        behind[0].parent.pop()
    seen: dict[str, str] = {}
    reads: dict[str, int] = {}
    found = []
    for cte in [*behind, None]:
        body = tree if cte is None else cte.this
        for table in body.find_all(exp.Table):
            if table.name in seen:
                known = seen[table.name]
                reads[known] = reads.get(known, 0) + 1
                table.set(
                    "alias", table.args.get("alias") or exp.TableAlias(this=exp.to_identifier(table.name))
                )
                table.set("this", exp.to_identifier(known))
        own = "" if cte is None else f"{prefix}{cte.alias}"
        if cte is not None:
            seen[cte.alias] = own
        found.append((own, str(body.sql(dialect="spark"))))
    return [Part(own, text, reads.get(own, 0) > 1) for own, text in found]


def tables(sql: str) -> set[str]:
    """Return the tables that a statement of DuckDB's SQL may read; those that it names itself are among them.

    >>> sorted(tables("WITH a AS (SELECT 1 FROM b) SELECT * FROM a"))
    ['a', 'b']
    """
    from sqlglot import exp, parse_one

    return {table.name for table in parse_one(sql, read="duckdb").find_all(exp.Table)}


def _translated(sql: str) -> Any:
    from sqlglot import exp, parse_one

    rules: dict[type, Callable[[Any], Any]] = {
        exp.Sum: _unsorted,
        exp.ArrayAgg: _sorted_list,
        exp.ArgMax: _by_struct,
        exp.ArgMin: _by_struct,
        exp.PercentileCont: _percentile,
        exp.Bracket: _element,
        exp.Concat: _as_text,
        exp.Div: _ieee,
        exp.Literal: _no_decimal,
    }
    # The leaves first: what a rule puts around a node is not visited again.
    tree = parse_one(sql, read="duckdb")
    for node in list(tree.dfs())[::-1]:
        rule = rules.get(type(node))
        made = node if rule is None else rule(node)
        if made is not node:
            node.replace(made)
    return tree


def _unsorted(node: Any) -> Any:
    """``sum(x ORDER BY x)``: Spark's sum takes no order."""
    from sqlglot import exp

    return exp.Sum(this=node.this.this.copy()) if isinstance(node.this, exp.Order) else node


def _sorted_list(node: Any) -> Any:
    """``list(x ORDER BY x, …)``: what sorts behind x itself makes no difference."""
    from sqlglot import exp

    order = node.this
    if not isinstance(order, exp.Order) or order.expressions[0].this != order.this:
        return node
    gathered = exp.Anonymous(this="COLLECT_LIST", expressions=[order.this.copy()])
    ascending = exp.Boolean(this=not order.expressions[0].args.get("desc"))
    return exp.Anonymous(this="SORT_ARRAY", expressions=[gathered, ascending])


def _by_struct(node: Any) -> Any:
    """``max_by(x, (a, b))``: a tuple is a struct there."""
    from sqlglot import exp

    if isinstance(node.expression, exp.Tuple):
        members = [member.copy() for member in node.expression.expressions]
        node.set("expression", exp.Anonymous(this="STRUCT", expressions=members))
    return node


def _percentile(node: Any) -> Any:
    """``quantile_cont(x, q)``: Spark's percentile_cont takes another form, its percentile this one."""
    from sqlglot import exp

    if node.args.get("expression") is None:
        return node
    return exp.Anonymous(this="PERCENTILE", expressions=[node.this.copy(), node.expression.copy()])


def _element(node: Any) -> Any:
    """``list[2]``, ``map[name]``: NULL outside, counted from 1; a literal index sqlglot has moved already."""
    from sqlglot import exp

    (index,) = node.expressions
    if isinstance(index, exp.Slice):
        return node
    if isinstance(index, exp.Literal) and not index.is_string:
        index = exp.Literal.number(int(index.this) + 1)
    return exp.Anonymous(this="TRY_ELEMENT_AT", expressions=[node.this.copy(), index.copy()])


def _as_text(node: Any) -> Any:
    """``concat(1, 'a')``: so that what fills the place of a NULL need not be a number."""
    from sqlglot import exp

    parts = [
        part.copy()
        if isinstance(part, exp.Literal) and part.is_string
        else exp.Cast(this=part.copy(), to=exp.DataType.build("text"))
        for part in node.expressions
    ]
    node.set("expressions", parts)
    return node


def _ieee(node: Any) -> Any:
    """``a / b``: where b is 0 infinite or not a number, as IEEE 754 and DuckDB have it, and not NULL."""
    from sqlglot import exp

    below = node.expression.unnest()
    if isinstance(below, exp.Nullif) or (isinstance(below, exp.Literal) and float(below.this) != 0):
        return node
    infinity = exp.Cast(this=exp.Literal.string("Infinity"), to=exp.DataType.build("double"))
    without = exp.Mul(this=exp.Paren(this=node.this.copy()), expression=infinity)
    whole = exp.Case(
        ifs=[
            exp.If(this=exp.EQ(this=node.expression.copy(), expression=exp.Literal.number(0)), true=without)
        ],
        default=node.copy(),
    )
    return exp.Paren(this=whole)


def _no_decimal(node: Any) -> Any:
    """``0.5``: a DECIMAL on both sides, but with other digits after a division."""
    from sqlglot import exp

    if node.is_string or node.this.isdigit():
        return node
    return exp.Cast(this=node.copy(), to=exp.DataType.build("double"))
