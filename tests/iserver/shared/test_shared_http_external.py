from tests.iserver.test_http_external import *  # noqa: F403
