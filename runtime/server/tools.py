"""Stand-in until the branch `constraints` is merged."""


class ToolCallParser:
    pass


class ToolPlan:
    spec = None
    template_tools = None

    def messages(self, messages):
        return messages

    def parser(self):
        return None


def plan_tools(*arguments, **options):
    return ToolPlan()
