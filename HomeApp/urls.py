"""The pages' URLs, and the API's."""

from csp.decorators import csp_update
from django.contrib.auth.views import LogoutView
from django.urls import include, path, re_path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from HomeApp import signup, tokens, views
from livejobs.api import problem

# Swagger UI has inline styles, and pictures in its addresses; its script comes from an address of its own.
swagger_policy = csp_update({"style-src": ["'self'", "'unsafe-inline'"], "img-src": ["'self'", "data:"]})
api_docs = swagger_policy(SpectacularSwaggerSplitView.as_view(url_name="api_schema"))

api_urlpatterns = [
    path("token/", tokens.TokenView.as_view(), name="api_token"),
    path("token/refresh/", tokens.RefreshView.as_view(), name="api_token_refresh"),
    path("users/", signup.user_list, name="api_users"),
    path("", include("livejobs.api.urls")),
    path("schema/", SpectacularAPIView.as_view(), name="api_schema"),
    path("docs/", api_docs, name="api_docs"),
    re_path("", problem.no_address),  # last: whatever else is asked for below /api/
]

urlpatterns = [
    path("", views.home, name="home"),
    path("search/", views.search, name="search"),
    path("exports/", views.exports, name="exports"),
    path("jobs/", views.my_jobs, name="jobs"),
    path("signup/", views.signup, name="signup"),
    path("login/", views.LogInView.as_view(), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("", include("livejobs.urls")),
    path("healthz", views.healthz, name="healthz"),
    path("readyz", views.readyz, name="readyz"),
    path("api/", include(api_urlpatterns)),
]
