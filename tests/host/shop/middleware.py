"""The project's own middleware."""


def content_security_policy(get_response):
    """Forbid whatever does not come from the site itself, inline scripts and styles too."""

    def respond(request):
        response = get_response(request)
        response["Content-Security-Policy"] = "default-src 'self'"
        return response

    return respond
