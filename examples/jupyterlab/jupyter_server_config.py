"""JupyterLab as a session: entered by its link, behind the proxy, and gone when it is forgotten."""

import os

from jupyter_server.base.handlers import APIHandler
from jupyterlab_server.workspaces_handler import WorkspacesHandler

c = get_config()  # noqa: F821  # Jupyter gives it to this file

# On every interface, since the proxy is outside of this container. Jupyter then takes any Host: its
# check is for servers at 127.0.0.1, and here the proxy lets in only a host name that is a link.
c.ServerApp.ip = ""
c.ServerApp.port = int(os.environ["PORT"])
c.ServerApp.port_retries = 0
c.ServerApp.open_browser = False

# The link is the right to enter, so nobody is asked for a password. Origin and _xsrf are checked as
# ever, by the Host that the browser sent, which the proxy leaves as it is.
c.IdentityProvider.token = ""

# The link is the host name: pages that are linked and images that are shown must not be told it.
c.ServerApp.tornado_settings = {"headers": {"Referrer-Policy": "same-origin"}}

# Kernels and terminals that do nothing for so long are stopped, tab or no tab, then the server.
forgotten_seconds = int(os.environ["FORGOTTEN_SECONDS"])
c.MappingKernelManager.cull_idle_timeout = forgotten_seconds
c.MappingKernelManager.cull_interval = 60
c.MappingKernelManager.cull_connected = True
c.TerminalManager.cull_inactive_timeout = forgotten_seconds
c.TerminalManager.cull_interval = 60
c.ServerApp.shutdown_no_activity_timeout = forgotten_seconds

# A tab in sight asks what runs and keeps its layout every 10 s, whether or not anybody is there.
APIHandler._track_activity = property(lambda handler: handler.request.method not in ("GET", "HEAD"))
WorkspacesHandler._track_activity = False
