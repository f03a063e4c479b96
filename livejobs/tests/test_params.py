"""Parameters of every type arrive in the task as the form has cleaned them."""

import json
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import pytest
from asgiref.sync import sync_to_async
from django import forms
from django.contrib.auth import get_user_model
from django.utils import timezone

import livejobs
from livejobs.models import Job
from livejobs.params import restored_params
from testkit.api import post

pytestmark = pytest.mark.django_db(transaction=True)
User = get_user_model()


class EveryForm(forms.Form):
    day = forms.DateField()
    at = forms.TimeField()
    moment = forms.DateTimeField()
    price = forms.DecimalField()
    lasts = forms.DurationField()
    key = forms.UUIDField()
    sizes = forms.MultipleChoiceField(choices=[("s", "small"), ("l", "large")])
    options = forms.JSONField(initial=lambda: {"depth": 2})
    careful = forms.BooleanField(required=False, initial=True)
    user = forms.ModelChoiceField(User.objects.all())
    others = forms.ModelMultipleChoiceField(User.objects.order_by("username"), required=False)
    until = forms.DateField(required=False)


@pytest.fixture
def users():
    return [User.objects.create_user(name, f"{name}@example.org") for name in ("ada", "ben", "cleo")]


@pytest.fixture
def sent(users):
    """What a page sends, as text and numbers."""
    return {
        "day": "2026-01-02",
        "at": "03:04:05",
        "moment": "2026-01-02T03:04:05Z",
        "price": "1.50",
        "lasts": "1 02:00:00",
        "key": "6f5729e7-9d41-482f-9ce2-4accfd80d797",
        "sizes": ["s", "l"],
        "careful": False,
        "user": str(users[0].pk),
        "others": [str(users[2].pk), str(users[1].pk)],
    }


def test_each_type_arrives_as_the_form_has_cleaned_it(run_job, new_kind, sent, users):
    arrived = {}

    def every(self, **params):
        arrived.update(params, others=list(params["others"]))

    new_kind(every, form=EveryForm, title="{day:%d.%m.%Y} for {user}")
    job = run_job("every", **sent)
    assert (job.state, job.title) == ("SUCCESS", "02.01.2026 for ada")
    assert arrived == {
        "day": date(2026, 1, 2),
        "at": time(3, 4, 5),
        "moment": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "price": Decimal("1.50"),
        "lasts": timedelta(days=1, hours=2),
        "key": uuid.UUID("6f5729e7-9d41-482f-9ce2-4accfd80d797"),
        "sizes": ["s", "l"],
        "options": {"depth": 2},
        "careful": False,
        "user": users[0],
        "others": users[1:],
        "until": None,
    }


def test_the_row_holds_json_from_which_the_job_can_be_repeated(new_kind, sent, users):
    def every(self, **params):
        """Not run here."""

    new_kind(every, form=EveryForm)
    job = livejobs.start("visitor-1", "every", sent)
    job.refresh_from_db()
    assert job.params["price"] == "1.50"
    assert job.params["user"] == users[0].pk
    livejobs.cancel("visitor-1", job.pk)
    assert livejobs.retry("visitor-1", job.pk).params == job.params


def test_what_was_chosen_and_is_deleted_meanwhile_fails_the_job_in_words(run_job, new_kind, sent, users):
    """The form accepts the choice, and its deletion is committed before the task begins."""

    def every(self, **params):
        """Not reached."""

    class DeletingForm(EveryForm):
        def clean(self):
            users[0].delete()

    new_kind(every, form=DeletingForm)
    job = run_job("every", **sent)
    assert (job.state, job.error) == ("FAILURE", "User: what was chosen is not there any more. Start the job again.")


def test_a_text_of_the_forms_own_is_handed_on(run_job, new_kind):
    class WeekdayForm(forms.Form):
        day = forms.DateField()

        def clean_day(self):
            return self.cleaned_data["day"].strftime("week %V")

    def work(self, day):
        return day

    new_kind(work, form=WeekdayForm)
    assert run_job("work", day="2026-01-02").result == "week 01"


@pytest.mark.parametrize("letter", ["a", "ж"])
def test_a_long_title_is_cut_to_what_a_row_holds(new_kind, letter):
    class NameForm(forms.Form):
        name = forms.CharField(max_length=2000)

    def work(self, name):
        """Not run here."""

    new_kind(work, form=NameForm, title="Report for {name}")
    job = livejobs.start("visitor-1", "work", {"name": letter * 2000})
    assert Job.objects.get().title == "Report for " + letter * 243 + "…"
    assert job.params == {"name": letter * 2000}


# Fields of several parts


@dataclass
class Money:
    amount: Decimal
    currency: str

    def __str__(self):
        return f"{self.amount} {self.currency}"


class MoneyWidget(forms.MultiWidget):
    def __init__(self):
        super().__init__({"amount": forms.TextInput, "currency": forms.TextInput})

    def decompress(self, value):
        return [value.amount, value.currency] if value else [None, None]


class MoneyField(forms.MultiValueField):
    """Its value is an object of the project's own, which is no JSON."""

    def __init__(self, **options):
        super().__init__([forms.DecimalField(), forms.CharField(max_length=3)], widget=MoneyWidget(), **options)

    def compress(self, parts):
        return Money(*parts) if parts else None


class RangeWidget(forms.MultiWidget):
    def __init__(self):
        super().__init__([forms.DateInput, forms.DateInput])

    def decompress(self, value):
        return value or [None, None]


class RangeField(forms.MultiValueField):
    def __init__(self, **options):
        super().__init__([forms.DateField(), forms.DateField()], widget=RangeWidget(), **options)

    def compress(self, parts):
        return tuple(parts)


class PartsForm(forms.Form):
    when = forms.SplitDateTimeField(label="When it begins")
    price = MoneyField(initial=Money(Decimal(3), "EUR"))
    days = RangeField(required=False)
    day = forms.DateField(widget=forms.SelectDateWidget(years=[2026]), required=False)


CLEANED = {
    "when": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    "price": Money(Decimal("1.50"), "USD"),
    "days": (date(2026, 1, 2), date(2026, 2, 3)),
    "day": date(2026, 3, 4),
}
PARTS = {
    "when": ["2026-01-02", "03:04:05"],
    "price": ["1.50", "USD"],
    "days": ["2026-01-02", "2026-02-03"],
    "day": "2026-03-04",
}
BY_NAME = {
    "when_0": "2026-01-02",
    "when_1": "03:04:05",
    "price_amount": "1.50",
    "price_currency": "USD",
    "days_0": "2026-01-02",
    "days_1": "2026-02-03",
    "day_year": "2026",
    "day_month": "3",
    "day_day": "4",
}


@pytest.fixture
def book(new_kind):
    """A kind whose form has fields of several parts. Returns what its attempts have got."""
    arrived = []

    def book(self, **params):
        arrived.append(params)

    new_kind(book, form=PartsForm, title="{when:%d.%m.%Y} for {price}")
    return arrived


@pytest.mark.parametrize(
    "params",
    [PARTS, BY_NAME, {**PARTS, "when": "2026-01-02T03:04:05Z"}, {**PARTS, "when": "2026-01-02T04:04:05+01:00"}],
    ids=["as lists of the parts", "by the names that a page has", "as ISO text", "as ISO text of another time zone"],
)
def test_a_field_of_several_parts_arrives_as_the_form_has_cleaned_it(run_job, book, params):
    job = run_job("book", **params)
    assert (job.state, job.title) == ("SUCCESS", "02.01.2026 for 1.50 USD")
    assert book == [CLEANED]


def test_a_browser_posts_the_parts_by_their_names(client, book):
    client.post("/start/book/", BY_NAME)
    job = Job.objects.get()
    assert restored_params(PartsForm, job.params, job.pk) == CLEANED


async def test_a_socket_takes_the_parts(socket, book):
    visitor = await socket()
    for params in (PARTS, BY_NAME):
        await visitor.send(type="start", kind="book", params=params)
        assert (await visitor.frame())["title"] == "02.01.2026 for 1.50 USD"


def test_the_api_takes_the_parts(client, book):
    for params in (PARTS, BY_NAME):
        assert post(client, "/api/jobs/", {"kind": "book", "params": params}).status_code == 201
    assert client.post("/api/jobs/", {"kind": "book", **BY_NAME}).status_code == 201
    stored = [job.params for job in Job.objects.all()]
    assert stored == [stored[0]] * 3
    assert stored[0]["when"] == "2026-01-02T03:04:05+00:00"
    assert stored[0]["price"] == ["1.50", "USD"]


def test_parts_that_are_missing_have_their_initial_value(run_job, book):
    run_job("book", when="2026-01-02T03:04:05Z")
    assert book[0] == {**CLEANED, "price": Money(Decimal(3), "EUR"), "days": (), "day": None}


def test_a_job_with_fields_of_several_parts_can_be_repeated(book):
    job = livejobs.start("visitor-1", "book", PARTS)
    livejobs.cancel("visitor-1", job.pk)
    assert livejobs.retry("visitor-1", job.pk).params == job.params


def test_the_moment_is_that_of_the_askers_time_zone_in_every_worker(book):
    with timezone.override("America/New_York"):
        params = livejobs.start("visitor-1", "book", PARTS).params
    assert restored_params(PartsForm, params, "1")["when"] == datetime(2026, 1, 2, 8, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("params", "field", "words"),
    [
        ({"when": ["2026-01-02"]}, "when", "This field is required."),
        ({"when": "tomorrow"}, "when", "Enter a valid date/time."),
        ({"when": 5}, "when", "This is no value of such a field. Give it as text."),
        ({"price": "3 EUR"}, "price", "Enter a list of values."),
        ({"price_amount": "3"}, "price", "This field is required."),
        ({"when_2": "x"}, "when_2", "there is no such parameter. Known: when, price, days, day."),
    ],
)
def test_parts_that_are_wrong_are_told_by_the_name_of_their_field(book, params, field, words):
    given = {name: value for name, value in PARTS.items() if name != field}
    with pytest.raises(livejobs.Refused) as refused:
        livejobs.start("visitor-1", "book", given | params)
    assert (refused.value.field, str(refused.value)) == (field, f"{field}: {words}")


def test_a_choice_arrives_as_its_own_type(run_job, new_kind):
    class ChoiceForm(forms.Form):
        size = forms.TypedChoiceField(choices=[("1.5", "small")], coerce=Decimal)
        sizes = forms.TypedMultipleChoiceField(choices=[("1.5", "small"), ("2", "large")], coerce=Decimal)

    def work(self, size, sizes):
        assert (size, sizes) == (Decimal("1.5"), [Decimal("1.5"), Decimal(2)])

    new_kind(work, form=ChoiceForm)
    assert run_job("work", size="1.5", sizes=["1.5", "2"]).state == "SUCCESS"


# What JSON can carry, and no browser posts

FIELDS = {
    "text": forms.CharField(),
    "number": forms.IntegerField(),
    "float": forms.FloatField(),
    "price": forms.DecimalField(),
    "day": forms.DateField(),
    "at": forms.TimeField(),
    "moment": forms.DateTimeField(),
    "lasts": forms.DurationField(),
    "address": forms.GenericIPAddressField(),
    "key": forms.UUIDField(),
    "box": forms.BooleanField(),
    "maybe": forms.NullBooleanField(),
    "choice": forms.ChoiceField(choices=[("a", "a")]),
    "choices": forms.MultipleChoiceField(choices=[("a", "a")]),
    "options": forms.JSONField(),
    "user": forms.ModelChoiceField(User.objects.all()),
    "users": forms.ModelMultipleChoiceField(User.objects.all()),
    "when": forms.SplitDateTimeField(),
    "selected": forms.DateField(widget=forms.SelectDateWidget),
    "file": forms.FileField(),
}
VALUES = [5, 1.5, True, None, "x", "\ud800", "\0", "9" * 5000, [1], [{}], [[1]], {"a": 1}, {"a": "\0"}, {"a": "\ud800"}]
VALUES += [float("inf"), 10**400, "[" * 2000, json.loads("[" * 500 + "]" * 500)]


@pytest.mark.parametrize("name", FIELDS)
def test_any_json_is_taken_and_arrives_unchanged_or_is_refused_by_name(new_kind, name):
    form = type("Form", (forms.Form,), {name: FIELDS[name]})

    def work(self, **params):
        """Not run here."""

    new_kind(work, form=form, title=f"{{{name}}}")
    for number, value in enumerate(VALUES):
        job, refused = started_or_refused(f"visitor-{number}", {name: value})
        if refused:
            assert (refused.code, refused.field) == ("bad_params", name), value
            assert str(refused).startswith(f"{name}: ")
        else:
            job.refresh_from_db()
            restored = restored_params(form, job.params, job.pk)
            again = livejobs.start(f"visitor-{number}", "work", job.params)
            assert restored_params(form, again.params, again.pk) == restored


def started_or_refused(owner, params):
    try:
        return livejobs.start(owner, "work", params), None
    except livejobs.Refused as refused:
        return None, refused


@pytest.mark.parametrize("initial", ["low", {"depth": 2}, [1], lambda: {"depth": 2}, lambda: "low", 3])
def test_the_initial_value_of_a_json_field_is_its_value(run_job, new_kind, initial):
    class Form(forms.Form):
        options = forms.JSONField(initial=initial)

    def work(self, options):
        return options

    new_kind(work, form=Form)
    assert run_job("work").result == (initial() if callable(initial) else initial)


# Limits of form, frame and server


class LongForm(forms.Form):
    text = forms.CharField(max_length=50_000)


@pytest.mark.parametrize("text", ["ж" * 2000, "a" * 20_000, "\n\"'<&>" * 3000], ids=["Cyrillic", "long", "escaped"])
async def test_a_text_that_a_form_allows_can_be_sent(socket, client, new_kind, text):
    def work(self, text):
        """Not run here."""

    new_kind(work, form=LongForm, title="{text}")
    visitor = await socket()
    frame = {"type": "start", "kind": "work", "params": {"text": text}, "ref": str(uuid.uuid4())}
    await visitor.send_to(text_data=json.dumps(frame, ensure_ascii=False))  # as a browser does
    assert (await visitor.frame())["state"] == "PENDING"
    for content in (json.dumps({**frame, "ref": None}, ensure_ascii=False), json.dumps({**frame, "ref": None})):
        assert (await sync_to_async(post)(client, "/api/jobs/", content)).status_code == 201
    texts = {job.params["text"] async for job in Job.objects.all()}
    assert texts == {text.strip()}


def test_a_text_that_no_frame_can_carry_is_posted(client, new_kind):
    def work(self, text):
        """Not run here."""

    new_kind(work, form=LongForm)
    for path in ("/start/work/", "/api/jobs/"):
        client.post(path, {"kind": "work", "text": "ж" * 50_000})
    assert [job.params["text"] for job in Job.objects.all()] == ["ж" * 50_000] * 2
