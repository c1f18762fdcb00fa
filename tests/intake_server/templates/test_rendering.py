"""Templates of catalog files: the sandbox and its limits on time and size (protocol §9.2, §9.5)."""

from __future__ import annotations

import asyncio
import posixpath
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intake_server.catalog.parameters import ParameterError
from intake_server.templates.rendering import TemplateError, Templates
from intake_server.templates.sandbox import MAX_SIZE
from tests.intake_server.conftest import Serve
from tests.intake_server.templates.test_caller_text import HERE, PLACES, rendered

HEAVY = [
    "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
    "{% set r = range(100000) %}{% for a in r %}{% for b in r %}{% for c in r %}{% endfor %}{% endfor %}{% endfor %}",
    "{% macro f(n) %}{% for a in range(9) %}{{ f(n) }}{% endfor %}{% endmacro %}{{ f(1) }}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "{{ 'x' * 10**10 }}",
    "{{ 10**10 * 'x' }}",
    "{{ [1] * 10**10 }}",
    "{{ 9**(9**9) }}",
    "{{ (9**99999)**99999 }}",
    "{{ '%9999999999d' % 1 }}",
    "{{ '%.999999999f' % 1 }}",
    "{{ '%*d' % (10**9, 1) }}",
    "{{ '%99999999d' | format(1) }}",
    "{{ '{:9999999999}'.format(1) }}",
    "{{ '{:{}}'.format(1, 10**9) }}",
    "{{ '{0:{w}}'.format(1, w=10**9) }}",
    "{{ 'x' | center(10**10) }}",
    "{{ 'x'.ljust(10**10) }}",
    "{{ 'x'.zfill(10**10) }}",
    "{{ '\t'.expandtabs(10**10) }}",
    "{{ 'x' | indent(10**10, true) }}",
    "{{ [1] | batch(10**10, 'x') | list }}",
    "{{ [1] | slice(10**10) | list }}",
    "{{ (1).to_bytes(10**10, 'big') }}",
    "{{ range(10**10) | list }}",
    "{{ range(100000) | map('string') | map('center', 4000) | list | length }}",
    "{{ ('y' * 60000).join(range(60000) | map('string')) }}",
    "{{ range(60000) | join('y' * 60000) }}",
    "{{ ('x' * 60000).replace('x', 'y' * 60000) }}",
    "{{ ('x' * 60000) | replace('x', 'y' * 60000) }}",
    "{{ ('%(a)s' * 9000) % {'a': 'x' * 90000} }}",
    "{{ ('{0}' * 9000).format('x' * 90000) }}",
    "{{ ('x' * 60000).translate({120: 'y' * 60000}) }}",
    "{% set n = namespace(x='abc') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x | length }}",
    "{% set n = namespace(x='abc') %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}{{ n.x | length }}",
    "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}",
    "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x ~ '' }}",
    "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x | string }}",
    "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ '%s' % n.x }}",
    "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = {1: n.x, 2: n.x} %}{% endfor %}{{ n.x|tojson }}",  # noqa: E501
    "{% for i in range(100000) %}" + "x" * 1000 + "{% endfor %}",
    "{% set x %}{% for i in range(100000) %}" + "x" * 1000 + "{% endfor %}{% endset %}{{ x | length }}",
    "{{ range(100000) | batch(1) | list | sum(start=[]) | length }}",
    "{{ lipsum(n=100000) }}",
    "{{ ('a.' * 50000) | urlize }}",
    "{{ (('a' * 100 ~ ' ') * 5000) | wordwrap(10) }}",
]


@pytest.mark.parametrize("template", HEAVY)
def test_a_template_that_takes_too_much_is_given_up_with_little_memory_used(template: str):
    templates = Templates(clock=time.thread_time)
    tracemalloc.start()
    began = time.thread_time()
    try:
        with templates.limited(), pytest.raises(TemplateError):
            templates.render(template, {})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 128 * 2**20
    assert time.thread_time() - began < 30


def test_all_templates_of_an_entry_share_their_limits():
    templates, now = Templates(clock=lambda: clock[0]), 0.0
    clock = [now]
    with templates.limited(), pytest.raises(TemplateError, match="more than 2 s"):
        for _ in range(5):
            clock[0] += 0.6
            templates.render(["{% for n in range(2) %}{% endfor %}"], {})
    with templates.limited(), pytest.raises(TemplateError, match="longer"):
        templates.render(["{% for n in range(2) %}{{ 'x' * 90000 }}{% endfor %}"] * 2, {})


def test_what_is_large_and_not_too_large_is_rendered():
    templates = Templates(clock=time.thread_time)
    assert templates.render("{{ 'x' * 1000 }}", {}) == "x" * 1000
    assert len(templates.render("{% for n in range(9999) %}{{ n }},{% endfor %}", {})) < MAX_SIZE
    assert templates.render("{{ 2**64 }} {{ '%05d' % 7 }} {{ '{:>9}'.format(123456789012) }}", {})
    assert templates.render("{{ range(5) | sum }}{{ [[1], [2]] | sum(start=[]) }}", {}) == "10[1, 2]"


@pytest.mark.parametrize(
    "template",
    ["{{ ''.__class__ }}", "{{ x.__globals__ }}", "{{ [].append(1) }}", "{{ cycler.__init__.__globals__ }}", "{{ (1"],
)
def test_the_sandbox_holds(template: str):
    with pytest.raises(TemplateError):
        Templates().render(template + "{{ ''.__class__.__mro__ }}", {})


@pytest.mark.parametrize(
    ("template", "unknown"),
    [
        ("{{ CATALOG_DIRR }}/{{ p }}", {"CATALOG_DIRR", "p"}),
        ("{{ env(HOME) }}{{ client_env(USER) }}{{ shell(ls) }}{{ env('A', b) }}", set()),
        ("{% for a in range(3) %}{% set b = a %}{{ b }}{% endfor %}", set()),
        ({"a": ["{{ x }}"], "{{ y }}": 1}, {"x", "y"}),
    ],
)
def test_the_variables_of_a_template_are_known(template: Any, unknown: set[str]):
    assert Templates().variables(template) == unknown


@pytest.mark.parametrize(
    ("template", "is_light"),
    [
        ("{{ CATALOG_DIR }}/{{ a }}_{{ b.c }}.csv", True),
        ("{{ env(HOME) }}", True),
        ("no template", True),
        ("{{ a * 2 }}", False),
        ("{% for n in a %}{% endfor %}", False),
        (["{{ a }}", {"b": "{{ f(a) }}"}], False),
    ],
)
def test_light_templates_only_put_things_together(template: Any, is_light: bool):
    assert Templates().are_light(template) == is_light


@given(st.text(alphabet="./\\~*?[]{}:@#%ab\0 -", max_size=12), st.sampled_from(PLACES))
def test_no_text_at_all_leads_out_of_the_folder(text: str, template: str):
    try:
        path = rendered(template, text)
    except (ParameterError, TemplateError):
        return
    inside = template.count("*")
    assert posixpath.normpath(path.replace("\\", "/")).startswith(HERE.rstrip("/"))
    assert sum(path.count(sign) for sign in "*?[{") == inside
    assert "::" not in path


async def test_a_heavy_template_holds_up_no_other_request(serve: Serve):
    server = await serve(
        """
        sources:
          heavy: {driver: textfiles, args: {urlpath: 'HEAVY{{ p }}'}, parameters: {p: {description: d, type: int}}}
          light: {driver: textfiles, direct_access: force, args: {urlpath: '{{ CATALOG_DIR }}/a'}}
        """.replace("HEAVY", HEAVY[1])
    )
    heavy = [asyncio.create_task(server.open("heavy", {"p": n})) for n in range(3)]
    answered = 0
    while not all(task.done() for task in heavy):
        message = {"action": "open", "name": "light", "available_plugins": ["textfiles"]}
        assert (await server.post(message)).status == 200
        answered += 1
    assert {(await task).status for task in heavy} == {400}
    assert answered > 20
