// PCL's VCCS for benchmarks/superpoints.py: pcl_vccs IN OUT VOXEL SEED COLOUR SPATIAL NORMAL
//
// IN: rows x y z intensity, float32 (a SemanticKITTI scan). OUT: an int32 for each point, 0 where PCL assigns none.
// Prints the processor's seconds from the cloud to its labels. On Debian or Ubuntu, with libpcl-dev:
//
//   g++ -O3 -DNDEBUG -std=c++17 benchmarks/pcl_vccs.cpp -o pcl_vccs $(pkg-config --cflags eigen3) -I/usr/include/pcl-1.13
//       -lpcl_segmentation -lpcl_search -lpcl_kdtree -lpcl_octree -lpcl_features -lpcl_filters -lpcl_common
#include <pcl/point_types.h>
#include <pcl/segmentation/supervoxel_clustering.h>

#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <iostream>
#include <map>

using Point = pcl::PointXYZRGBA;

int main(int count, char** words) {
  if (count != 8) {
    std::cerr << "pcl_vccs IN OUT VOXEL SEED COLOUR SPATIAL NORMAL\n";
    return 1;
  }
  const auto number = [words](int place) { return static_cast<float>(std::atof(words[place])); };
  pcl::PointCloud<Point>::Ptr cloud(new pcl::PointCloud<Point>);
  std::ifstream in(words[1], std::ios::binary);
  for (float row[4]; in.read(reinterpret_cast<char*>(row), sizeof row);) {
    Point point;
    point.x = row[0], point.y = row[1], point.z = row[2];
    point.r = point.g = point.b = static_cast<std::uint8_t>(255 * row[3]);
    cloud->push_back(point);
  }

  const std::clock_t begin = std::clock();
  pcl::SupervoxelClustering<Point> vccs(number(3), number(4));
  vccs.setUseSingleCameraTransform(false);
  vccs.setInputCloud(cloud);
  vccs.setColorImportance(number(5));
  vccs.setSpatialImportance(number(6));
  vccs.setNormalImportance(number(7));
  std::map<std::uint32_t, pcl::Supervoxel<Point>::Ptr> found;
  vccs.extract(found);
  const auto labelled = vccs.getLabeledCloud();
  std::cout << static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC << '\n';

  std::ofstream out(words[2], std::ios::binary);
  for (const auto& point : *labelled) {
    const auto label = static_cast<std::int32_t>(point.label);
    out.write(reinterpret_cast<const char*>(&label), sizeof label);
  }
}
