// Creates one compute pipeline on the first Vulkan device and prints what its driver says of the compiled code: registers,
// spills, occupancy, instructions. Needs no GPU where the driver has a null device (compilers.mjs).
//   pipeline_stats FILE.spv KINDS [--asm] [--bounds]
//     KINDS     a letter a binding of group 0: u uniform buffer, r or w storage buffer ("urrrw")
//     --asm     the instructions too
//     --bounds  robustBufferAccess, as a browser has it
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <vulkan/vulkan.h>

#define CHECK(call)                                          \
  do {                                                       \
    VkResult result = (call);                                \
    if (result < 0) {                                        \
      fprintf(stderr, "%s: VkResult %d\n", #call, result);   \
      exit(1);                                               \
    }                                                        \
  } while (0)
#define LOAD(device, name) PFN_##name name = (PFN_##name)vkGetDeviceProcAddr(device, #name)

static uint32_t *read_file(const char *path, size_t *size) {
  FILE *file = fopen(path, "rb");
  if (!file) { perror(path); exit(1); }
  fseek(file, 0, SEEK_END);
  *size = ftell(file);
  rewind(file);
  uint32_t *words = malloc(*size);
  if (fread(words, 1, *size, file) != *size) { perror(path); exit(1); }
  fclose(file);
  return words;
}

int main(int argc, char **argv) {
  if (argc < 3) { fprintf(stderr, "usage: pipeline_stats FILE.spv KINDS [--asm] [--bounds]\n"); return 2; }
  int assembly = 0, bounds = 0;
  for (int i = 3; i < argc; i++) {
    assembly |= !strcmp(argv[i], "--asm");
    bounds |= !strcmp(argv[i], "--bounds");
  }

  VkApplicationInfo application = {VK_STRUCTURE_TYPE_APPLICATION_INFO, .apiVersion = VK_API_VERSION_1_3};
  VkInstanceCreateInfo instance_info = {VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO, .pApplicationInfo = &application};
  VkInstance instance;
  CHECK(vkCreateInstance(&instance_info, NULL, &instance));
  uint32_t count = 1;
  VkPhysicalDevice physical;
  CHECK(vkEnumeratePhysicalDevices(instance, &count, &physical));
  if (count == 0) { fprintf(stderr, "no Vulkan device; compilers.mjs makes the environment\n"); return 1; }
  VkPhysicalDeviceDriverProperties driver = {VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES};
  VkPhysicalDeviceProperties2 properties2 = {VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &driver};
  vkGetPhysicalDeviceProperties2(physical, &properties2);
  VkPhysicalDeviceProperties properties = properties2.properties;

  uint32_t families = 16, family = 0;
  VkQueueFamilyProperties family_properties[16];
  vkGetPhysicalDeviceQueueFamilyProperties(physical, &families, family_properties);
  while (family + 1 < families && !(family_properties[family].queueFlags & VK_QUEUE_COMPUTE_BIT)) family++;
  float priority = 1;
  VkDeviceQueueCreateInfo queue = {
      VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO, .queueFamilyIndex = family, .queueCount = 1, .pQueuePriorities = &priority};
  VkPhysicalDevicePipelineExecutablePropertiesFeaturesKHR executable = {
      VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PIPELINE_EXECUTABLE_PROPERTIES_FEATURES_KHR, .pipelineExecutableInfo = VK_TRUE};
  VkPhysicalDeviceVulkan13Features v13 = {VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES, .pNext = &executable};
  VkPhysicalDeviceVulkan12Features v12 = {VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES, .pNext = &v13};
  VkPhysicalDeviceVulkan11Features v11 = {VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES, .pNext = &v12};
  VkPhysicalDeviceFeatures2 features = {VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, .pNext = &v11};
  vkGetPhysicalDeviceFeatures2(physical, &features);
  features.features.robustBufferAccess = bounds;
  const char *extension = VK_KHR_PIPELINE_EXECUTABLE_PROPERTIES_EXTENSION_NAME;
  VkDeviceCreateInfo device_info = {
      VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO, .pNext = &features, .queueCreateInfoCount = 1, .pQueueCreateInfos = &queue,
      .enabledExtensionCount = 1, .ppEnabledExtensionNames = &extension};
  VkDevice device;
  CHECK(vkCreateDevice(physical, &device_info, NULL, &device));

  size_t size;
  uint32_t *code = read_file(argv[1], &size);
  VkShaderModuleCreateInfo module_info = {VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO, .codeSize = size, .pCode = code};
  VkShaderModule module;
  CHECK(vkCreateShaderModule(device, &module_info, NULL, &module));
  VkDescriptorSetLayoutBinding bindings[32] = {0};
  uint32_t bound = strlen(argv[2]);
  for (uint32_t i = 0; i < bound; i++) {
    bindings[i] = (VkDescriptorSetLayoutBinding){
        .binding = i, .descriptorCount = 1, .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT,
        .descriptorType = argv[2][i] == 'u' ? VK_DESCRIPTOR_TYPE_UNIFORM_BUFFER : VK_DESCRIPTOR_TYPE_STORAGE_BUFFER};
  }
  VkDescriptorSetLayoutCreateInfo set_info = {
      VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO, .bindingCount = bound, .pBindings = bindings};
  VkDescriptorSetLayout set;
  CHECK(vkCreateDescriptorSetLayout(device, &set_info, NULL, &set));
  VkPipelineLayoutCreateInfo layout_info = {VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO, .setLayoutCount = 1, .pSetLayouts = &set};
  VkPipelineLayout layout;
  CHECK(vkCreatePipelineLayout(device, &layout_info, NULL, &layout));
  VkComputePipelineCreateInfo pipeline_info = {
      VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
      .flags = VK_PIPELINE_CREATE_CAPTURE_STATISTICS_BIT_KHR
               | (assembly ? VK_PIPELINE_CREATE_CAPTURE_INTERNAL_REPRESENTATIONS_BIT_KHR : 0),
      .stage = {VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO, .stage = VK_SHADER_STAGE_COMPUTE_BIT, .module = module,
                .pName = "main"},
      .layout = layout};
  VkPipeline pipeline;
  CHECK(vkCreateComputePipelines(device, VK_NULL_HANDLE, 1, &pipeline_info, NULL, &pipeline));

  LOAD(device, vkGetPipelineExecutablePropertiesKHR);
  LOAD(device, vkGetPipelineExecutableStatisticsKHR);
  LOAD(device, vkGetPipelineExecutableInternalRepresentationsKHR);
  VkPipelineInfoKHR info = {VK_STRUCTURE_TYPE_PIPELINE_INFO_KHR, .pipeline = pipeline};
  uint32_t parts = 8;
  VkPipelineExecutablePropertiesKHR part[8] = {0};
  for (int i = 0; i < 8; i++) part[i].sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_PROPERTIES_KHR;
  CHECK(vkGetPipelineExecutablePropertiesKHR(device, &info, &parts, part));
  for (uint32_t i = 0; i < parts; i++) {
    VkPipelineExecutableInfoKHR which = {VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INFO_KHR, .pipeline = pipeline, .executableIndex = i};
    uint32_t statistics = 0;
    CHECK(vkGetPipelineExecutableStatisticsKHR(device, &which, &statistics, NULL));
    VkPipelineExecutableStatisticKHR *statistic = calloc(statistics, sizeof *statistic);
    for (uint32_t j = 0; j < statistics; j++) statistic[j].sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_STATISTIC_KHR;
    CHECK(vkGetPipelineExecutableStatisticsKHR(device, &which, &statistics, statistic));
    printf("device=%s; driver=%s; stage=%s; subgroup=%u", properties.deviceName, driver.driverInfo, part[i].name, part[i].subgroupSize);
    for (uint32_t j = 0; j < statistics; j++) {
      VkPipelineExecutableStatisticValueKHR value = statistic[j].value;
      printf("; %s=", statistic[j].name);
      switch (statistic[j].format) {
        case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_BOOL32_KHR: printf("%u", value.b32); break;
        case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_INT64_KHR: printf("%lld", (long long)value.i64); break;
        case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_UINT64_KHR: printf("%llu", (unsigned long long)value.u64); break;
        default: printf("%g", value.f64);
      }
    }
    printf("\n");
    if (!assembly) continue;
    uint32_t texts = 0;
    CHECK(vkGetPipelineExecutableInternalRepresentationsKHR(device, &which, &texts, NULL));
    VkPipelineExecutableInternalRepresentationKHR *text = calloc(texts, sizeof *text);
    for (uint32_t j = 0; j < texts; j++) text[j].sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INTERNAL_REPRESENTATION_KHR;
    CHECK(vkGetPipelineExecutableInternalRepresentationsKHR(device, &which, &texts, text));
    for (uint32_t j = 0; j < texts; j++) text[j].pData = malloc(text[j].dataSize + 1);
    CHECK(vkGetPipelineExecutableInternalRepresentationsKHR(device, &which, &texts, text));
    for (uint32_t j = 0; j < texts; j++) {
      if (strstr(text[j].name, "Assembly")) printf("%.*s\n", (int)text[j].dataSize, (char *)text[j].pData);
    }
  }
  // Null devices crash where they are taken down.
  fflush(stdout);
  _exit(0);
}
