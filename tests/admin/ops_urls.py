"""A second admin site, with the mixins combined with a `ModelAdmin` of its own."""

from django.contrib import admin
from django.contrib.auth.models import User
from django.urls import path

from django_tasks_seq.admin import JobAdminMixin, WorkerAdminMixin
from django_tasks_seq.models import Job, Worker


class ThemeAdmin(admin.ModelAdmin):
    """Stands for the `ModelAdmin` of an admin theme: it has media and a context of its own."""

    class Media:
        css = {"all": ["theme/theme.css"]}

    def changeform_view(self, request, object_id=None, form_url="", extra_context=None):
        context = {"theme": "dark", **(extra_context or {})}
        return super().changeform_view(request, object_id, form_url, context)


class OpsJobAdmin(JobAdminMixin, ThemeAdmin):
    list_per_page = 2

    def get_queryset(self, request):
        return super().get_queryset(request).exclude(queue="secret")


class OpsWorkerAdmin(WorkerAdminMixin, ThemeAdmin):
    pass


class PagelessAdmin(admin.ModelAdmin):
    """An admin without a page for each row."""

    def get_urls(self):
        return []


site = admin.AdminSite(name="ops")
site.register(User, PagelessAdmin)
site.register(Job, OpsJobAdmin)

workers_only = admin.AdminSite(name="workers_only")
workers_only.register(Worker, OpsWorkerAdmin)

urlpatterns = [
    path("admin/", admin.site.urls),
    path("ops/", site.urls),
    path("workers/", workers_only.urls),
]
