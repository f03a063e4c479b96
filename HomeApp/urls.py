"""The pages' URLs, and the API's."""

from django.contrib.auth.views import LogoutView
from django.urls import include, path, re_path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from HomeApp import api, problem, signup, views

api_urlpatterns = [
    path("token/", api.TokenView.as_view(), name="api_token"),
    path("token/refresh/", api.RefreshView.as_view(), name="api_token_refresh"),
    path("users/", signup.user_list, name="api_users"),
    path("jobs/", api.job_list, name="api_jobs"),
    path("jobs/<str:task_id>/", api.job_detail, name="api_job"),
    path("jobs/<str:task_id>/cancel/", api.job_cancel, name="api_job_cancel"),
    path("jobs/<str:task_id>/retry/", api.job_retry, name="api_job_retry"),
    path("jobs/<str:task_id>/file/", api.job_file, name="api_job_file"),
    path("schema/", SpectacularAPIView.as_view(), name="api_schema"),
    path("docs/", SpectacularSwaggerView.as_view(url_name="api_schema"), name="api_docs"),
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
    path("healthz", views.healthz, name="healthz"),
    path("api/", include(api_urlpatterns)),
]
