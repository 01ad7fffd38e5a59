"""The shop's pages, the admin, and the files that the tasks have made."""

from django.conf import settings
from django.conf.urls.static import static
from django.contrib import admin
from django.urls import include, path

admin.site.site_header = "Acme Shop admin"
admin.site.site_title = "Acme Shop"
admin.site.index_title = "Behind the counter"

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("example_project.shop.urls")),
    *static(settings.MEDIA_URL, document_root=settings.MEDIA_ROOT),
]
