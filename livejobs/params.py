"""The parameters of a job: cleaned by the form of its kind, stored as JSON, and restored for its task."""

import json
import logging
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

from django import forms
from django.core.exceptions import ValidationError
from django.core.files import File
from django.db.models import Model, QuerySet
from django.forms.fields import JSONString
from django.http import QueryDict
from django.utils.datastructures import MultiValueDict
from django.utils.duration import duration_iso_string

from livejobs import uploads
from livejobs.conf import conf
from livejobs.outcome import DEEPEST_RESULT, JobError, is_deeper
from livejobs.refused import Refused

logger = logging.getLogger(__name__)

#: What these fields clean is no JSON. It is stored as text, as a primary key or as its parts, which the field cleans
#: again.
RESTORED = (
    forms.fields.BaseTemporalField,
    forms.DecimalField,
    forms.DurationField,
    forms.JSONField,
    forms.ModelChoiceField,
    forms.MultiValueField,
    forms.TypedChoiceField,
    forms.TypedMultipleChoiceField,
    forms.UUIDField,
)
GONE = "{}: what was chosen is not there any more. Start the job again."
FILE_GONE = "{}: the file that was uploaded is not there any more. Start the job with it again."
NO_FILE = "{}: Send the file over HTTP, as multipart/form-data. JSON cannot carry it."
UNREADABLE = "This is no value of such a field. Give it as text."
UNSTORABLE = "{}: It has a character, a number or too many levels that no database can store. Leave that out."
TOO_LARGE = "At most {:g} MiB can be uploaded. This file is larger."


def cleaned_params(owner: str, form: type[forms.Form], params: Any) -> dict[str, Any]:
    """Return the parameters of a job as the form of its kind has cleaned them.

    Args:
        owner: the owner of the job, which the form finds in `self.owner`.
        form: of the kind.
        params: a dict; what is missing takes the initial value of the form.

    Raises:
        Refused: `bad_params`, or `forbidden` if the form says so. It names the field.
    """
    fields = form.base_fields
    if not isinstance(params, dict):
        raise Refused("bad_params", "params: give an object, for example {}.", "params")
    params = _with_parts_joined(form, params)
    unknown = sorted(params.keys() - fields.keys())
    if unknown:
        known = ", ".join(fields) or "none"
        raise Refused("bad_params", f"{unknown[0]}: there is no such parameter. Known: {known}.", unknown[0])
    filled = form_of(owner, form, params)
    if not filled.is_valid():
        field, problems = next(iter(filled.errors.items()))
        if isinstance(fields.get(field), forms.FileField) and not _is_posted(params.get(field, "")):
            raise Refused("bad_params", NO_FILE.format(field), field)
        code = "forbidden" if filled.has_error(field, "forbidden") else "bad_params"
        raise Refused(code, f"{field}: {problems[0]}", field)
    return filled.cleaned_data


def _is_posted(value: Any) -> bool:
    """Tell whether the value of a field for a file is of a form that was posted, with a file or without."""
    return all(one is None or isinstance(one, File) for one in (value if isinstance(value, list) else [value]))


def _with_parts_joined(form: type[forms.Form], params: dict[str, Any]) -> dict[str, Any]:
    """Return parameters with the parts of a field, which a page sends as `day_0` and `day_1`, as one value."""
    joined = dict(params)
    for name, field in form.base_fields.items():
        parts = (set(_names(field.widget, name)) - form.base_fields.keys()) & joined.keys()
        if parts:
            joined[name] = field.widget.value_from_datadict(params, params, name)
        for part in parts:
            del joined[part]
    return joined


def _names(widget: forms.Widget, name: str) -> list[str]:
    """Return the names by which a browser posts the parts of a field."""
    if isinstance(widget, forms.MultiWidget):
        suffixes: list[str] = widget.widgets_names  # type: ignore[attr-defined]  # the stubs do not know it
        pairs = zip(widget.widgets, suffixes, strict=True)
        return [one for part, suffix in pairs for one in _names(part, name + suffix)]
    if isinstance(widget, forms.SelectDateWidget):
        return [part % name for part in (widget.year_field, widget.month_field, widget.day_field)]
    return [name]


def form_of(owner: str, form: type[forms.Form], params: dict[str, Any]) -> forms.Form:
    """Return a form, filled in: what is missing has its initial value.

    Args:
        owner: see `cleaned_params`.
        form: see `cleaned_params`.
        params: by the names of the form's fields.
    """
    empty = form()
    initial = {name: _initial(field, empty.get_initial_for_field(field, name)) for name, field in empty.fields.items()}
    values = {**initial, **params}
    filled = form(values, cast("Any", values))  # the widget of a file looks among the files
    for name, field in filled.fields.items():
        filled.fields[name] = _taking(field, values.get(name))
    filled.owner = owner  # type: ignore[attr-defined]
    return filled


def _initial(field: forms.Field, initial: Any) -> Any:
    """Return an initial value as a page would send it."""
    if isinstance(field, forms.JSONField | forms.ModelMultipleChoiceField):
        return field.prepare_value(initial)
    if _has_parts(field) and not isinstance(initial, list | tuple | None):
        return field.widget.decompress(initial)
    return initial


def _taking(field: forms.Field, value: Any) -> Any:
    """Return a form's field as one that takes this value, or refuses it in words."""
    taking: Any = field
    if isinstance(field, forms.SplitDateTimeField) and not isinstance(value, list | tuple | None):
        taking = forms.DateTimeField(required=field.required, label=field.label, validators=field.validators)
    elif isinstance(field, forms.FileField):
        taking.validators.append(_is_small)
    elif isinstance(field.widget, forms.MultiWidget | forms.NullBooleanSelect):  # they look for what browsers post
        taking.widget.value_from_datadict = lambda data, files, name: data.get(name)
    taking.clean = _contained(taking.clean)
    return taking


def _contained(clean: Callable[..., Any]) -> Callable[..., Any]:
    """Return a field's `clean` for any JSON: of what no browser posts, fields of Django raise errors of any class."""

    def contained(*args: Any) -> Any:
        try:
            return clean(*args)
        except (ArithmeticError, AttributeError, RecursionError, TypeError, ValueError):
            logger.warning("A value was refused, as its field could not clean it", exc_info=True)
            raise ValidationError(UNREADABLE) from None

    return contained


def _has_parts(field: forms.Field | None) -> bool:
    """Tell whether a field is stored as its parts. A date and a time are one value."""
    return isinstance(field, forms.MultiValueField) and not isinstance(field, forms.SplitDateTimeField)


def _is_small(file: Any) -> None:
    if file.size > conf.UPLOAD_MIB * 2**20:
        raise ValidationError(TOO_LARGE.format(conf.UPLOAD_MIB))


def params_of_post(
    form: type[forms.Form], posted: QueryDict, files: MultiValueDict[str, Any] | None = None
) -> dict[str, Any]:
    """Return the parameters that a browser has posted.

    A browser posts nothing for a box that is not ticked: that is False, and not the form's initial value.

    Args:
        form: of the kind.
        posted: the body of the request.
        files: of the request.
    """
    widgets = {name: field.widget for name, field in form.base_fields.items()}
    return {
        name: widget.value_from_datadict(posted, files or {}, name)
        for name, widget in widgets.items()
        if widget.needs_multipart_form or not widget.value_omitted_from_data(posted, files or {}, name)
    }


def stored_params(form: type[forms.Form], cleaned: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters as a row and a message hold them, as JSON.

    Args:
        form: of the kind.
        cleaned: by the form, with names in place of files.

    Raises:
        Refused: `bad_params`: a database cannot hold one of them.
    """
    fields = form.base_fields
    parts = {name: fields[name].widget.decompress(cleaned[name]) for name in cleaned if _has_parts(fields.get(name))}
    stored = {}
    for name, value in {**cleaned, **parts}.items():
        if is_deeper(value, DEEPEST_RESULT) or not _is_storable(as_json := _stored(value)):
            raise Refused("bad_params", UNSTORABLE.format(name), name)
        stored[name] = as_json
    return stored


def _is_storable(value: Any) -> bool:
    """Tell whether every database can hold JSON: it has no NUL, no half of a surrogate pair and no NaN."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()
    except ValueError:
        return False
    return "\\u0000" not in text.replace("\\\\", "")


def _stored(value: Any) -> Any:
    match value:
        case Model():
            return _stored(value.pk)
        case QuerySet():
            return [_stored(pk) for pk in value.values_list("pk", flat=True)]
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return duration_iso_string(value)
        case Decimal() | UUID():
            return str(value)
        case JSONString():  # as a text it would be taken for JSON when the job is repeated
            return json.dumps(value)
        case list() | tuple():
            return [_stored(one) for one in value]
        case dict():
            return {name: _stored(one) for name, one in value.items()}
    return value


def restored_params(form: type[forms.Form], stored: Mapping[str, Any], task_id: Any) -> dict[str, Any]:
    """Return parameters as the form had cleaned them.

    A text of a form's own `clean_<field>` that its field cannot clean is handed on as it is.

    Args:
        form: of the kind.
        stored: the parameters of a job.
        task_id: the job's id.

    Raises:
        JobError: an object that was chosen, or a file that was uploaded, has been deleted.
    """
    restored = with_files(form, stored, task_id)
    if not any(isinstance(field, RESTORED) for field in form.base_fields.values()):
        return restored
    blank = form()
    for name, field in blank.fields.items():
        if name in stored and isinstance(field, RESTORED):
            try:
                restored[name] = _taking(field, stored[name]).clean(stored[name])
            except ValidationError:
                if isinstance(field, forms.ModelChoiceField):
                    raise JobError(GONE.format(blank[name].label)) from None
    return restored


def with_files(form: type[forms.Form], stored: Mapping[str, Any], task_id: Any) -> dict[str, Any]:
    """Return parameters with the files that were uploaded for a job in place of their names.

    Args:
        form: see `restored_params`.
        stored: see `restored_params`.
        task_id: see `restored_params`.

    Raises:
        JobError: such a file has been deleted.
    """
    restored = {}
    for name, value in stored.items():
        try:
            restored[name] = uploads.opened(task_id, value)
        except FileNotFoundError:
            raise JobError(FILE_GONE.format(form()[name].label)) from None
    return restored
