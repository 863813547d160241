"""A study's result as files and on the terminal."""

from flows.report.document import FORMATS, Document
from flows.report.files import write

__all__ = ["FORMATS", "Document", "write"]
