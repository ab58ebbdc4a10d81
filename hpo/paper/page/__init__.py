"""The page of a paper that was measured again: verdicts, its figures redrawn, tables."""

from hpo.paper.page.build import write_page

__all__ = ["write_page"]
